//! How a pipeline's parts fit together: which parser column goes to which aggregate, key and output.

use crate::error::Error;
use crate::plugin::{AggregateDescription, DataType, Encoding, Field, ParserDescription, timestamp_type};
use crate::shadow::Tolerance;
use crate::spec::{AggregateSpec, PipelineSpec, TimeSpec};
use crate::version::{Role, Starts};
use arrow_schema::{Field as ArrowField, Schema, SchemaRef};
use std::sync::Arc;

/// The name by which aggregates ask for the time of the event, whatever the parser calls it.
pub const EVENT_TIME: &str = "event_time";

/// A pipeline whose parts fit.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The topic, as it stands in outputs.
    pub topic: Arc<str>,
    /// How event time moves.
    pub time: TimeSpec,
    /// The parser's columns.
    pub columns: Vec<Field>,
    /// Which of them is the time of the event.
    pub event_time: Option<usize>,
    /// Which of them holds what no other does.
    pub rescue: Option<usize>,
    /// The aggregates in force, in the order of the pipeline file, and behind them versions that run beside these.
    pub aggregates: Vec<AggregatePlan>,
    /// Among how many workers keys are divided.
    pub workers: usize,
    /// The schema of the events: the parser's columns, `event_ts`, `topic`, `partition`, `offset`.
    pub raw_schema: SchemaRef,
    /// The schema of rows that were too late: the events', `window_start`, `window_end`, `late_by_us`.
    pub late_schema: SchemaRef,
}

/// One version of an aggregate whose columns are found.
#[derive(Clone, Debug)]
pub struct AggregatePlan {
    /// As the pipeline file says.
    pub spec: AggregateSpec,
    /// The place of the version in force: its own, unless it runs beside that.
    pub of: usize,
    /// What it is for.
    pub role: Role,
    /// Which windows it answers for.
    pub starts: Starts,
    /// By how much it may differ, as a shadow.
    pub tolerance: Tolerance,
    /// Where each of the plugin's inputs comes from, and how it is to be encoded.
    pub inputs: Vec<(Source, Encoding)>,
    /// The parser's columns that make the key.
    pub keys: Vec<usize>,
    /// The types of the key's columns.
    pub key_types: Vec<DataType>,
    /// Which ends of the window the plugin's `finish` wants.
    pub context: Vec<Bound>,
    /// Window, key columns, the plugin's outputs.
    pub schema: SchemaRef,
    /// The version of the plugin's states.
    pub state_version: u32,
    /// Whether the plugin's states may be merged in any order.
    pub commutative: bool,
}

/// A version that runs beside the one in force.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Of which aggregate, by its place.
    pub of: usize,
    /// What it is for; not current.
    pub role: Role,
    /// By how much a shadow may differ.
    pub tolerance: Tolerance,
    /// What its plugin says of itself.
    pub description: AggregateDescription,
}

/// Where an aggregate's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A column of the parser.
    Column(usize),
    /// The time of the event.
    EventTime,
}

/// An end of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its start.
    Start,
    /// Its exclusive end.
    End,
}

impl Plan {
    /// Fits the parts together. `aggregates` are in the order of `spec.aggregates`.
    ///
    /// # Errors
    /// [`Error::Config`] with every mistake: one sentence each, with what there is and what is wanted.
    pub fn new(
        spec: &PipelineSpec,
        topic: &str,
        parser: &ParserDescription,
        aggregates: &[AggregateDescription],
        workers: usize,
    ) -> Result<Self, Error> {
        Self::with(spec, topic, parser, aggregates, &[], workers)
    }

    /// Fits the parts together, where there are versions beside those in force. All answer for all windows.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with(
        spec: &PipelineSpec,
        topic: &str,
        parser: &ParserDescription,
        aggregates: &[AggregateDescription],
        beside: &[Beside],
        workers: usize,
    ) -> Result<Self, Error> {
        let mut mistakes = Vec::new();
        let mut plans = Vec::new();
        for (of, (spec, description)) in spec.aggregates.iter().zip(aggregates).enumerate() {
            plans.push(plan_aggregate(spec, of, description, &parser.outputs, &mut mistakes));
        }
        for Beside { of, role, description, tolerance } in beside {
            let plan = plan_aggregate(&spec.aggregates[*of], *of, description, &parser.outputs, &mut mistakes);
            plans.push(AggregatePlan { role: *role, tolerance: tolerance.clone(), ..plan });
        }
        for reserved in ["event_ts", "topic", "partition", "offset", "window_start", "window_end", "late_by_us"] {
            if parser.outputs.iter().any(|f| f.name == reserved) {
                mistakes.push(format!("the parser makes a column {reserved}, which is the host's; name it otherwise"));
            }
        }
        if !mistakes.is_empty() {
            return Err(Error::Config(mistakes));
        }
        let (raw_schema, late_schema) = event_schemas(&parser.outputs);
        Ok(Self {
            topic: topic.into(),
            time: spec.time.clone(),
            columns: parser.outputs.clone(),
            event_time: parser.event_time,
            rescue: parser.rescue,
            aggregates: plans,
            workers,
            raw_schema,
            late_schema,
        })
    }

    /// Divides an aggregate's windows between the version in force and the one that is retiring, which answers for
    /// those that start before `before_us`.
    pub fn pin(&mut self, aggregate: usize, before_us: i64) {
        for plan in self.aggregates.iter_mut().filter(|plan| plan.of == aggregate) {
            match plan.role {
                Role::Current => plan.starts = Starts::from(before_us),
                Role::Retiring => plan.starts = Starts::before(before_us),
                Role::Shadow { .. } => {}
            }
        }
    }

    /// An aggregate's shadow answers for the windows from `from_us` on, if it has not seen all.
    pub fn observe(&mut self, aggregate: usize, from_us: Option<i64>) {
        for plan in self.aggregates.iter_mut().filter(|plan| plan.of == aggregate && plan.role.is_shadow()) {
            plan.starts = from_us.map_or(Starts::ALL, Starts::from);
        }
    }

    /// The place of the version that is retiring from this aggregate's.
    pub fn retiring(&self, aggregate: usize) -> Option<usize> {
        self.aggregates.iter().position(|plan| plan.of == aggregate && plan.role == Role::Retiring)
    }

    /// The place of this aggregate's shadow.
    pub fn shadow(&self, aggregate: usize) -> Option<usize> {
        self.aggregates.iter().position(|plan| plan.of == aggregate && plan.role.is_shadow())
    }

    /// How many aggregates are in force: their places come first.
    pub fn in_force(&self) -> usize {
        self.aggregates.iter().take_while(|plan| plan.role == Role::Current).count()
    }
}

impl AggregatePlan {
    /// The name of its state in a checkpoint.
    pub fn state_name(&self) -> String {
        self.role.state_name(&self.spec.name).into_owned()
    }
}

fn event_schemas(columns: &[Field]) -> (SchemaRef, SchemaRef) {
    let mut fields: Vec<ArrowField> = columns.iter().map(Field::arrow_field).collect();
    let topic =
        Field { name: "topic".into(), data_type: DataType::Utf8, encoding: Encoding::Dictionary, nullable: false };
    fields.push(ArrowField::new("event_ts", timestamp_type(), false));
    fields.push(topic.arrow_field());
    fields.push(ArrowField::new("partition", arrow_schema::DataType::Int32, false));
    fields.push(ArrowField::new("offset", arrow_schema::DataType::Int64, false));
    let raw = Arc::new(Schema::new(fields.clone()));
    fields.push(ArrowField::new("window_start", timestamp_type(), false));
    fields.push(ArrowField::new("window_end", timestamp_type(), false));
    fields.push(ArrowField::new("late_by_us", arrow_schema::DataType::Int64, false));
    (raw, Arc::new(Schema::new(fields)))
}

fn plan_aggregate(
    spec: &AggregateSpec,
    of: usize,
    description: &AggregateDescription,
    columns: &[Field],
    mistakes: &mut Vec<String>,
) -> AggregatePlan {
    let name = &spec.name;
    let find = |wanted: &str| columns.iter().position(|c| c.name == wanted);
    let known = || columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");

    let mut inputs = Vec::new();
    for input in &description.inputs {
        match input_source(input, columns) {
            Ok(source) => inputs.push((source, input.encoding)),
            Err(why) => mistakes.push(format!("aggregate {name}: {why}; the parser makes {}", known())),
        }
    }
    let mut keys = Vec::new();
    for key in &spec.keys {
        match find(key) {
            Some(i) if columns[i].data_type == DataType::Float64 => {
                mistakes.push(format!(
                    "aggregate {name}: key {key} is a float64; a key is text, bytes, integer, boolean or timestamp"
                ));
            }
            Some(i) => keys.push(i),
            None => mistakes
                .push(format!("aggregate {name}: there is no column {key} to be a key; the parser makes {}", known())),
        }
    }
    let mut context = Vec::new();
    for field in &description.context {
        match field.name.as_str() {
            "window_start" => context.push(Bound::Start),
            "window_end" => context.push(Bound::End),
            other => mistakes
                .push(format!("aggregate {name}: wants {other} as context; there are window_start and window_end")),
        }
    }
    if !description.commutative {
        mistakes.push(format!(
            "aggregate {name}: its plugin says that order matters (commutative = false), so its results would depend on \
             how partitions interleave; use order-insensitive states, such as the SDK's exact sum"
        ));
    }
    let schema = output_schema(spec, description, &keys.iter().map(|&k| &columns[k]).collect::<Vec<_>>(), mistakes);
    AggregatePlan {
        spec: spec.clone(),
        of,
        role: Role::Current,
        starts: Starts::ALL,
        tolerance: Tolerance::default(),
        inputs,
        key_types: keys.iter().map(|&k| columns[k].data_type).collect(),
        keys,
        context,
        schema,
        state_version: description.state_version,
        commutative: description.commutative,
    }
}

fn input_source(input: &Field, columns: &[Field]) -> Result<Source, String> {
    let name = &input.name;
    let Some(index) = columns.iter().position(|c| c.name == *name) else {
        return if name == EVENT_TIME {
            require(input, DataType::Timestamp).map(|()| Source::EventTime)
        } else {
            Err(format!("its plugin wants a column {name}"))
        };
    };
    // The parser's own event_time column may hold nulls; what an aggregate means by the name never does.
    if name == EVENT_TIME {
        return require(input, DataType::Timestamp).map(|()| Source::EventTime);
    }
    let column = &columns[index];
    require(input, column.data_type)?;
    if column.nullable && !input.nullable {
        return Err(format!("its plugin wants {name} without nulls, and the column may hold some"));
    }
    Ok(Source::Column(index))
}

fn require(input: &Field, data_type: DataType) -> Result<(), String> {
    if input.data_type == data_type {
        Ok(())
    } else {
        Err(format!("its plugin wants {} as {:?}, and the column is {data_type:?}", input.name, input.data_type))
    }
}

fn output_schema(
    spec: &AggregateSpec,
    description: &AggregateDescription,
    keys: &[&Field],
    mistakes: &mut Vec<String>,
) -> SchemaRef {
    let mut fields = spec.window.columns().map(|name| ArrowField::new(name, timestamp_type(), false)).to_vec();
    for key in keys {
        fields.push(Field { encoding: Encoding::Plain, ..(*key).clone() }.arrow_field());
    }
    for output in &description.outputs {
        if fields.iter().any(|f| f.name() == &output.name) {
            mistakes.push(format!(
                "aggregate {}: its plugin makes a column {}, which is already a window or key column",
                spec.name, output.name
            ));
        }
        fields.push(output.arrow_field());
    }
    Arc::new(Schema::new(fields))
}
