//! Who is connected: how many at once, and for how long.
//!
//! Whoever reaches the port may connect, say half a request, read an answer a byte at a time, or nothing at all. None of
//! that is worth a descriptor that a file of the pipeline needs, so places are few. One is always free: when the last is
//! taken, whoever has been here the longest has to go. Nobody stays for long, and an honest request takes milliseconds;
//! only a request of somebody with a token is waited for.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::control::ANSWER_WITHIN;
use crate::disk::most_open_files;

/// Connections at once: people, scrapers and probes are a handful, and each takes up to 50 KB.
const MOST: usize = 128;

/// Of the descriptors that this process may have, connections take one in so many: the rest is for files and brokers.
const SHARE: u64 = 8;

/// What is kept of a request's head; hyper's own bound is 400 KB.
const BUFFER_BYTES: usize = 32 << 10;

/// How long the system may have no descriptor for a new connection before it is asked again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How many connections there may be, and how long each may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At once, at least two.
    pub(super) connections: usize,
    /// For a request's head, and between two requests.
    pub(super) head: Duration,
    /// For all requests of a connection, which is closed between two of them, then.
    pub(super) stay: Duration,
    /// For the request that is under way then.
    pub(super) grace: Duration,
    /// The same, for one of somebody with a token.
    pub(super) trusted_grace: Duration,
}

impl Limits {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        let share = usize::try_from(most_open_files() / SHARE).unwrap_or(MOST);
        Self {
            connections: share.clamp(2, MOST),
            head: Duration::from_secs(10),
            stay: Duration::from_mins(1),
            grace: Duration::from_secs(10),
            // A component is sent, and then its answer waited for.
            trusted_grace: ANSWER_WITHIN * 2,
        }
    }
}

/// Whether a request of somebody with a token is under way on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<AtomicUsize>);

impl Trust {
    /// It is, as long as the answer is kept.
    pub(super) fn hold(&self) -> Held {
        self.0.fetch_add(1, Ordering::SeqCst);
        Held(self.clone())
    }

    fn is_held(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// As long as this is kept, the connection is waited for.
#[derive(Debug)]
pub(super) struct Held(Trust);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers what comes in, until `shutdown` is ready and the last answer is out.
pub(super) async fn attend(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let room = Arc::new(Room::new(limits));
    let (end, ends) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        // Those that are over are let go of.
        while connections.try_join_next().is_some() {}
        let place = tokio::select! {
            () = &mut shutdown => break,
            place = Place::in_room(&room) => place,
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, router.clone(), place, limits, ends.clone()));
            }
            // No descriptor is left, or whoever came is gone: neither is worth more than another try.
            Err(error) => {
                tracing::debug!(%error, "a connection to the web page could not be accepted");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    end.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// One connection, until either side has enough of it.
async fn converse(stream: TcpStream, router: Router, place: Place, limits: Limits, mut ends: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router.layer(Extension(place.guest.trust.clone())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How it ended is the other side's affair.
        _ = &mut connection => return,
        () = place.guest.leave.notified() => return,
        () = sleep(limits.stay) => {}
        _ = ends.wait_for(|end| *end) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = place.guest.leave.notified() => {}
        () = patience(&place.guest.trust, limits) => {}
    }
}

/// Ends when a connection has had all the time there is for it.
async fn patience(trust: &Trust, limits: Limits) {
    let began = Instant::now();
    sleep(limits.grace).await;
    while trust.is_held() && began.elapsed() < limits.trusted_grace {
        sleep(limits.grace).await;
    }
}

/// The places there are, and who has one.
struct Room {
    free: Arc<Semaphore>,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    /// The number of whoever comes next.
    next: u64,
    /// By their numbers: who came first is first.
    here: BTreeMap<u64, Arc<Guest>>,
}

#[derive(Debug, Default)]
struct Guest {
    trust: Trust,
    leave: Notify,
}

impl Room {
    fn new(limits: Limits) -> Self {
        Self { free: Arc::new(Semaphore::new(limits.connections.max(2))), guests: Mutex::default() }
    }

    /// Has whoever has been here the longest leave, but for those who are trusted.
    fn make_room(&self) {
        let mut guests = self.lock();
        let longest = guests.here.iter().find(|(_, guest)| !guest.trust.is_held()).map(|(&number, _)| number);
        if let Some(guest) = longest.and_then(|number| guests.here.remove(&number)) {
            guest.leave.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
struct Place {
    room: Arc<Room>,
    number: u64,
    guest: Arc<Guest>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// One that is free or is made so.
    async fn in_room(room: &Arc<Room>) -> Self {
        if room.free.available_permits() == 0 {
            room.make_room();
        }
        let permit = room.free.clone().acquire_owned().await.expect("the places are never closed");
        let guest = Arc::<Guest>::default();
        let mut guests = room.lock();
        let number = guests.next;
        guests.next += 1;
        guests.here.insert(number, guest.clone());
        drop(guests);
        Self { room: room.clone(), number, guest, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.lock().here.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::routing::{get, post};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpStream as Stream};

    /// More than anything here takes.
    const LONG: Duration = Duration::from_mins(1);

    const GENEROUS: Limits =
        Limits { connections: 8, head: LONG, stay: LONG, grace: Duration::from_millis(20), trusted_grace: LONG };

    /// Serves while `ask` runs: `/` says ok, `/endless` never ends to send, `/body` takes a body, `/trusted` that of
    /// somebody who is trusted.
    fn with<T: Send + 'static>(limits: Limits, ask: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        async fn take(body: Body) -> String {
            to_bytes(body, 1 << 20).await.map_or_else(|error| error.to_string(), |bytes| bytes.len().to_string())
        }
        let trusted = async |Extension(trust): Extension<Trust>, body: Body| {
            let _held = trust.hold();
            take(body).await
        };
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/endless", get(async || vec![b'x'; 64 << 20]))
            .route("/body", post(take))
            .route("/trusted", post(trusted));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let serving = tokio::spawn(attend(listener, router, limits, async { drop(stopped.await) }));
            let answer = tokio::task::spawn_blocking(move || ask(address)).await.unwrap();
            stop.send(()).unwrap();
            serving.await.unwrap().unwrap();
            answer
        })
    }

    fn connect(address: SocketAddr, say: &str) -> Stream {
        let mut stream = Stream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(say.as_bytes()).unwrap();
        stream
    }

    fn ok(address: SocketAddr) -> bool {
        rest(connect(address, "GET / HTTP/1.0\r\n\r\n")).ends_with("ok")
    }

    /// What still comes, until the other side closes: an error of the connection is an end, too, but not a timeout.
    fn rest(mut stream: Stream) -> String {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("still open"),
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    #[test]
    fn whoever_comes_is_answered_however_many_are_silent() {
        for say in [
            "",
            "GET / HTTP/1.1\r\nHost: ",
            "POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            "GET /endless HTTP/1.1\r\n\r\n",
        ] {
            let silent = with(GENEROUS, move |address| {
                let silent: Vec<Stream> = (0..100).map(|_| connect(address, say)).collect();
                assert!(ok(address), "{say:?}");
                silent.len()
            });
            assert_eq!(silent, 100);
        }
    }

    #[test]
    fn a_head_that_does_not_end_is_not_waited_for() {
        let limits = Limits { head: Duration::from_millis(20), ..GENEROUS };
        with(limits, |address| {
            rest(connect(address, "GET / HTTP/1.1\r\nHost: "));
            rest(connect(address, ""));
            // Nor is a second request.
            assert!(rest(connect(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")).ends_with("ok"));
        });
    }

    #[test]
    fn a_body_that_does_not_come_and_an_answer_that_is_not_read_are_not_waited_for() {
        let limits = Limits { stay: Duration::from_millis(20), ..GENEROUS };
        with(limits, |address| {
            rest(connect(address, "POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\nfour"));
            let slow = connect(address, "GET /endless HTTP/1.1\r\n\r\n");
            // By then what was not read is thrown away.
            rest(connect(address, "POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\nfour"));
            assert!(rest(slow).len() < 64 << 20);
        });
    }

    #[test]
    fn somebody_with_a_token_is_waited_for_whoever_comes() {
        let limits = Limits { stay: Duration::from_millis(20), ..GENEROUS };
        let answer = with(limits, |address| {
            let mut trusted =
                connect(address, "POST /trusted HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
            // It says this when the body is asked for, which only who is trusted does here.
            let mut go_on = [0; 25];
            trusted.read_exact(&mut go_on).unwrap();
            let silent: Vec<Stream> = (0..100).map(|_| connect(address, "GET")).collect();
            assert!(ok(address));
            // Longer than who is not trusted may take.
            rest(connect(address, "POST /body HTTP/1.1\r\nContent-Length: 9\r\n\r\nfour"));
            trusted.write_all(b"nine byte").unwrap();
            drop(silent);
            rest(trusted)
        });
        assert!(answer.ends_with("\r\n\r\n9"), "{answer}");
    }

    #[test]
    fn nobody_is_trusted_for_ever() {
        let limits = Limits { stay: Duration::from_millis(20), trusted_grace: Duration::from_millis(40), ..GENEROUS };
        with(limits, |address| rest(connect(address, "POST /trusted HTTP/1.1\r\nContent-Length: 9\r\n\r\nfour")));
    }

    #[test]
    fn connections_take_a_small_part_of_the_descriptors() {
        let limits = Limits::of_process();
        assert!(limits.connections as u64 <= most_open_files() / SHARE && limits.connections <= MOST);
    }
}
