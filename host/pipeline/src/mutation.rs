//! Deliberate bugs, one at a time, which tests switch on to show that the simulation would find them.
//!
//! Without the feature `testing` none can be on, and what asks for one is compiled away.

/// A bug that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A cut's next offsets are one too high.
    NextOffsetTooHigh,
    /// Too late or not is judged by the partition that is furthest ahead.
    LateByTheFastest,
    /// Windows are closed while a cut is under way.
    CloseWhileCutting,
    /// Rows from behind a barrier are counted before the cut.
    BarrierIgnored,
    /// A group that is gone is not noted for the next cut.
    ReleaseForgotten,
    /// A session that began earlier than the last cut knew leaves its old entry there.
    OldStartKept,
    /// Windows are closed before the rows that are on their way were received.
    CloseBeforeReceiving,
    /// Files get their final names before the manifest exists.
    CommitBeforePublish,
    /// Files are not synced before the manifest names them.
    FilesNotSynced,
    /// Folders of files are not synced before the manifest names what is in them.
    FoldersNotSynced,
    /// Staged names are removed before the final ones are durable.
    FinalNamesNotSynced,
    /// The checkpoint folder is not synced.
    ManifestNotSynced,
    /// What a checkpoint file holds is not synced before it gets its name.
    ContentsNotSynced,
    /// A manifest is written over one of the same number.
    PublishOverExisting,
    /// The last checkpoint is recovered from without taking it over.
    TakeOverForgotten,
    /// That files have their final names is not believed of a checkpoint that was taken over since.
    NotesOfOthersIgnored,
    /// Segments that the newest manifest needs are removed.
    NewestPruned,
    /// The watermark of every partition is restored as that of the furthest.
    WatermarkTooHigh,
    /// What was closed up to is forgotten by a restart.
    ClosedForgotten,
    /// Recovery leaves files that were open at the checkpoint.
    OpenFilesForgotten,
    /// Rows that waited for the end of their row group are forgotten by recovery.
    WaitingRowsForgotten,
    /// Recovery takes in rows that began to wait after the checkpoint.
    RowsAfterTheCutRead,
    /// Waiting rows are not synced before the manifest names them.
    WaitingRowsNotSynced,
    /// Windows are divided between two versions at an instant that a row read before may come to.
    PinTooEarly,
    /// Groups of a version that is gone stay in checkpoints.
    FarewellForgotten,
    /// Groups that go on under another name are not written under it.
    RenamedForgotten,
    /// A new version counts from nothing what was done for its aggregate.
    CountsForgotten,
    /// Each day of a time zone has 24 hours, whatever is done to its clocks.
    DayOf24Hours,
    /// Each of two versions gives the sessions that begin in its time, although the other has them too.
    SessionsDivided,
    /// A row that is too late for some of its sliding windows counts in its pane, and so in all.
    LateRowInPane,
    /// The sum of a key's newer panes is used without those that came since.
    StaleSum,
    /// A pane is released one window too early.
    PaneReleasedTooEarly,
    /// Which windows of a key were given out is not noted for the next cut.
    MarkForgotten,
    /// Files finished on probation get their final names at once.
    HeldCommitted,
    /// The checkpoint before a swap is removed on probation.
    BoundaryPruned,
    /// Files that were open on probation get their final names when it is gone on.
    OpenCommittedOnProbation,
    /// Files that were open on probation are forgotten when it is gone on.
    OpenForgottenOnProbation,
    /// Files that are held are swept away.
    HeldSwept,
    /// Files that were held get their final names when the swap is taken back.
    HeldKeptOnGoingBack,
    /// The state of the version that is taken back is kept.
    StateKeptOnGoingBack,
    /// A time is believed however far it is ahead of all before it.
    SuspectsBelieved,
    /// One row more than was asked for must agree.
    ConfirmOffByOne,
    /// A row without a time of its own moves the watermark to the broker's.
    BrokerTimeClaims,
    /// The first time of a partition is believed, whatever it is.
    StartSkipped,
    /// All silent, the watermark is the least of the partitions'.
    AllIdleTakesLeast,
    /// What a partition's last rows claimed is forgotten by a restart.
    DoubtForgotten,
    /// A partition with unread records, behind an open transaction, counts as silent.
    UnreadIsSilence,
    /// The time during which no broker answers counts as silence.
    OutageIsSilence,
    /// A run that ends by itself does not ask the brokers' timestamps.
    EndingByRowsAlone,
    /// A partition without records holds the watermark at the end of a run.
    EmptyHolds,
    /// The newest broker timestamp of a partition is forgotten by a restart.
    NewestForgotten,
    /// A run that ends by itself takes all that is committed for all there is.
    OpenTransactionIsTheEnd,
    /// Offsets at the end that are no records, or of aborted transactions, are waited for.
    AbortedHoldTheEnd,
    /// Staged files of other checkpoint folders are swept away.
    OthersSwept,
    /// A checkpoint that is older than what was committed is gone on from.
    OlderCheckpointTaken,
    /// A checkpoint folder that is gone is begun anew, whatever the output has.
    LostCheckpointIgnored,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 56] = [
        Self::NextOffsetTooHigh,
        Self::LateByTheFastest,
        Self::CloseWhileCutting,
        Self::BarrierIgnored,
        Self::ReleaseForgotten,
        Self::OldStartKept,
        Self::CloseBeforeReceiving,
        Self::CommitBeforePublish,
        Self::FilesNotSynced,
        Self::FoldersNotSynced,
        Self::FinalNamesNotSynced,
        Self::ManifestNotSynced,
        Self::ContentsNotSynced,
        Self::PublishOverExisting,
        Self::TakeOverForgotten,
        Self::NotesOfOthersIgnored,
        Self::NewestPruned,
        Self::WatermarkTooHigh,
        Self::ClosedForgotten,
        Self::OpenFilesForgotten,
        Self::WaitingRowsForgotten,
        Self::RowsAfterTheCutRead,
        Self::WaitingRowsNotSynced,
        Self::PinTooEarly,
        Self::FarewellForgotten,
        Self::RenamedForgotten,
        Self::CountsForgotten,
        Self::DayOf24Hours,
        Self::SessionsDivided,
        Self::LateRowInPane,
        Self::StaleSum,
        Self::PaneReleasedTooEarly,
        Self::MarkForgotten,
        Self::HeldCommitted,
        Self::BoundaryPruned,
        Self::OpenCommittedOnProbation,
        Self::OpenForgottenOnProbation,
        Self::HeldSwept,
        Self::HeldKeptOnGoingBack,
        Self::StateKeptOnGoingBack,
        Self::SuspectsBelieved,
        Self::ConfirmOffByOne,
        Self::BrokerTimeClaims,
        Self::StartSkipped,
        Self::AllIdleTakesLeast,
        Self::DoubtForgotten,
        Self::UnreadIsSilence,
        Self::OutageIsSilence,
        Self::EndingByRowsAlone,
        Self::EmptyHolds,
        Self::NewestForgotten,
        Self::OpenTransactionIsTheEnd,
        Self::AbortedHoldTheEnd,
        Self::OthersSwept,
        Self::OlderCheckpointTaken,
        Self::LostCheckpointIgnored,
    ];
}

#[cfg(feature = "testing")]
mod switch {
    use super::Mutation;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Whether this bug is on.
    pub fn on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Switches one bug on for this thread, or all off.
    pub fn switch(mutation: Option<Mutation>) {
        ON.set(mutation);
    }
}

#[cfg(feature = "testing")]
pub use switch::{on, switch};

/// Whether this bug is on: never.
#[cfg(not(feature = "testing"))]
#[inline]
pub const fn on(_: Mutation) -> bool {
    false
}
