//! Readers of single values. Numbers, switches, durations and lists may be text too, so that variables can set them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    duration::{self, parse_duration, us},
    instant::parse_instant,
    size::{self, parse_size},
    tree::{Node, Value},
};

/// What a reader gives: the value, or what is wrong and what would be right.
pub(super) type Read<T> = Result<T, String>;

/// The fewest characters of a token: 16 random letters and digits have 95 bits, more than anybody can try over a network.
const MIN_TOKEN: usize = 16;

/// The most: far below what HTTP servers take of a header.
const MAX_TOKEN: usize = 1000;

/// How a wrong value is shown.
pub(super) fn shown(node: &Node) -> String {
    match &node.value {
        Value::Broken => "it".into(),
        Value::Text(text) if text.chars().count() > 80 => format!("{:?}…", text.chars().take(80).collect::<String>()),
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::List(_) => "a list".into(),
        Value::Table(_) => "a section".into(),
    }
}

fn is_not<T>(node: &Node, what: &str, write: &str) -> Read<T> {
    Err(format!("{} is not {what}; write {write}", shown(node)))
}

/// Text.
pub(super) fn text(node: &Node) -> Read<String> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        _ => is_not(node, "text", "it in quotes"),
    }
}

/// A path; a relative one is relative to the current folder.
pub(super) fn path(node: &Node) -> Read<PathBuf> {
    match text(node)? {
        text if text.contains('\0') => is_not(node, "a path", "one without NUL"),
        text => Ok(PathBuf::from(text)),
    }
}

/// A name of an aggregate or a pipeline.
pub(super) fn name(node: &Node) -> Read<String> {
    let name = text(node)?;
    let first = name.starts_with(|c: char| c.is_ascii_lowercase());
    if first && name.len() <= 100 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Ok(name);
    }
    is_not(node, "a name", "lower-case letters, digits and _, a letter first, such as page_metrics")
}

/// What a file name and a token's name are made of.
const FILE_NAME: &str = "letters, digits, '.', '_' and '-' only, and no '.' first";

fn is_file_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 100 && name.chars().all(known) && !name.is_empty() && !name.starts_with('.')
}

/// A part of a file name: letters, digits, dots, underscores and hyphens.
pub(super) fn file_name(node: &Node) -> Read<String> {
    let name = text(node)?;
    if is_file_name(&name) { Ok(name) } else { is_not(node, "a file name", FILE_NAME) }
}

/// The name of a token, which stands in logs and in the history of swaps.
pub(super) fn token_name(name: &str) -> Read<()> {
    if is_file_name(name) { Ok(()) } else { Err(format!("{name:?} is not a token's name; write {FILE_NAME}")) }
}

/// A token of the API. No message shows it.
pub(super) fn token(node: &Node) -> Read<String> {
    let Value::Text(token) = &node.value else { return Err("a token is text; write it in quotes".into()) };
    if token.len() < MIN_TOKEN || token.len() > MAX_TOKEN {
        return Err(format!(
            "the token has {} characters; write {MIN_TOKEN} to {MAX_TOKEN}, such as `openssl rand -hex 32` gives",
            token.chars().count()
        ));
    }
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token.clone())
    } else {
        Err("the token has a character that a header cannot carry; write letters, digits and signs of ASCII".into())
    }
}

/// The name of a Kafka topic.
pub(super) fn topic(node: &Node) -> Read<String> {
    let name = text(node)?;
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    // As Kafka's own `Topic.validate` has it.
    if (1..=249).contains(&name.len()) && name.chars().all(known) && name != "." && name != ".." {
        return Ok(name);
    }
    if name.contains(',') {
        return is_not(node, "one topic", "one: a pipeline reads a single topic, so each needs a pipeline of its own");
    }
    if name.contains(['*', '^', '?', '[', '(', '|', '+']) {
        return is_not(node, "a topic's name but a pattern", "one name: a pipeline reads a single topic");
    }
    is_not(node, "a topic's name", "letters, digits, '.', '_' and '-' only, 249 at most")
}

/// A switch.
pub(super) fn switch(node: &Node) -> Read<bool> {
    match &node.value {
        Value::Boolean(yes) => return Ok(*yes),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => return Ok(true),
        Value::Text(text) if text.eq_ignore_ascii_case("false") => return Ok(false),
        _ => {}
    }
    is_not(node, "a switch", "true or false")
}

/// A whole number, 0 or more.
pub(super) fn count(node: &Node) -> Read<u64> {
    let number = match &node.value {
        Value::Integer(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(number @ 0..) => Ok(number as u64),
        Some(number) => Err(format!("{number} is negative; write a whole number, 0 or more")),
        None => is_not(node, "a whole number", "0 or more, without quotes or unit"),
    }
}

/// A whole number within `range`.
pub(super) fn count_in(min: u64, max: u64) -> impl Fn(&Node) -> Read<u64> {
    move |node| match count(node)? {
        number if (min..=max).contains(&number) => Ok(number),
        number => Err(format!("{number} is out of range; write {min} to {max}")),
    }
}

fn number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A rate per second, 0 or more.
pub(super) fn rate(node: &Node) -> Read<f64> {
    match number(node) {
        Some(number) if number.is_finite() && number >= 0.0 => Ok(number),
        Some(number) if number.is_finite() => {
            Err(format!("{number} is negative; write events per second, or 0 for as many as go"))
        }
        _ => is_not(node, "a rate", "events per second, or 0 for as many as go"),
    }
}

/// How many times as much, 1 or more, or `off`.
pub(super) fn factor_or_off(node: &Node) -> Read<Option<f64>> {
    if is_off(node) {
        return Ok(None);
    }
    match number(node) {
        Some(number) if number.is_finite() && number >= 1.0 => Ok(Some(number)),
        _ => is_not(node, "a factor", "how many times as much, 1 or more, such as 10, or \"off\""),
    }
}

/// A share of a whole, 0 to 1: in percent, or as a number.
pub(super) fn share(node: &Node) -> Read<f64> {
    let share = match &node.value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        Value::Text(text) => match text.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
            None => text.trim().parse().ok(),
        },
        _ => None,
    };
    match share {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => is_not(node, "a share", "0% to 100%, such as \"1%\""),
    }
}

/// A share of a whole, or `off`.
pub(super) fn share_or_off(node: &Node) -> Read<Option<f64>> {
    if is_off(node) {
        return Ok(None);
    }
    share(node).map(Some).map_err(|wrong| format!("{wrong}, or \"off\""))
}

/// A duration, 0 or more.
pub(super) fn duration(node: &Node) -> Read<Duration> {
    match &node.value {
        Value::Text(text) => parse_duration(text),
        Value::Integer(0) => Ok(Duration::ZERO),
        Value::Integer(number) => Err(format!("{number} has no unit; write {}", duration::EXAMPLES)),
        _ => is_not(node, "a duration", duration::EXAMPLES),
    }
}

/// A duration above 0.
pub(super) fn positive(node: &Node) -> Read<Duration> {
    match duration(node)? {
        Duration::ZERO => Err(format!("{} is no time at all; write {}", shown(node), duration::EXAMPLES)),
        duration => Ok(duration),
    }
}

/// A duration in either direction, µs: `-8h`.
pub(super) fn signed_us(node: &Node) -> Read<i64> {
    let Value::Text(text) = &node.value else { return duration(node).map(us) };
    let text = text.trim();
    match text.strip_prefix(['-', '+']) {
        // Of two signs the second is none of a duration.
        Some(rest) => {
            parse_duration(rest).map(|duration| if text.starts_with('-') { -us(duration) } else { us(duration) })
        }
        None => parse_duration(text).map(us),
    }
}

/// A duration above 0, or `off`.
pub(super) fn positive_or_off(node: &Node) -> Read<Option<Duration>> {
    if is_off(node) {
        return Ok(None);
    }
    match duration(node) {
        Ok(Duration::ZERO) => {
            Err(format!("{} is no time at all; write {}, or \"off\"", shown(node), duration::EXAMPLES))
        }
        Ok(duration) => Ok(Some(duration)),
        Err(wrong) => Err(format!("{wrong}, or \"off\"")),
    }
}

/// An instant, µs since the Unix epoch, or `off`.
pub(super) fn instant_or_off(node: &Node) -> Read<Option<i64>> {
    if is_off(node) {
        return Ok(None);
    }
    parse_instant(&text(node)?).map(Some).map_err(|wrong| format!("{wrong}, or \"off\""))
}

/// A size above 0, in bytes.
pub(super) fn bytes(node: &Node) -> Read<u64> {
    let bytes = match &node.value {
        Value::Text(text) => parse_size(text)?,
        Value::Integer(number) => parse_size(&number.to_string())?,
        _ => return is_not(node, "a size", size::EXAMPLES),
    };
    if bytes == 0 { Err(format!("{} is no size at all; write {}", shown(node), size::EXAMPLES)) } else { Ok(bytes) }
}

/// A size above 0, in bytes, or `off`.
pub(super) fn bytes_or_off(node: &Node) -> Read<Option<u64>> {
    if is_off(node) {
        return Ok(None);
    }
    bytes(node).map(Some).map_err(|wrong| format!("{wrong}, or \"off\""))
}

/// An address to listen on, or `off`.
pub(super) fn listen(node: &Node) -> Read<Option<SocketAddr>> {
    if is_off(node) {
        return Ok(None);
    }
    let written = text(node)?;
    let numeric = written.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    match numeric.unwrap_or(written).parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => is_not(node, "an address", "127.0.0.1:8080, 0.0.0.0:8080 for all networks, or \"off\""),
    }
}

/// One of `words`, in any case.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Node) -> Read<T> {
    move |node| {
        let written = match &node.value {
            Value::Text(text) => text.trim().to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(yes) => yes.to_string(),
            _ => String::new(),
        };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&written));
        found.map(|(_, value)| *value).map_or_else(|| is_not(node, "known here", &known(words)), Ok)
    }
}

/// The words, for messages.
fn known<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ")
}

/// A list of what `item` reads: TOML's, or text with commas.
pub(super) fn list<T>(item: impl Fn(&Node) -> Read<T>) -> impl Fn(&Node) -> Read<Vec<T>> {
    move |node| match &node.value {
        Value::List(items) => items.iter().map(&item).collect(),
        Value::Text(text) => {
            let part = |part: &str| Node { value: Value::Text(part.trim().to_owned()), ..node.clone() };
            text.split(',').map(|text| item(&part(text))).collect()
        }
        _ => is_not(node, "a list", "[\"one\", \"two\"]"),
    }
}

/// A value as plugins get it.
///
/// # Errors
/// For infinite numbers and NaN, which JSON does not have.
pub(super) fn json(node: &Node) -> Read<serde_json::Value> {
    Ok(match &node.value {
        Value::Broken => serde_json::Value::Null,
        Value::Text(text) => text.clone().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => number.into(),
            None => return is_not(node, "a number that JSON has", "a finite one"),
        },
        Value::Boolean(yes) => (*yes).into(),
        Value::List(items) => items.iter().map(json).collect::<Read<Vec<_>>>()?.into(),
        Value::Table(table) => {
            let entry = |(key, node): (&String, &Node)| Ok((key.clone(), json(node)?));
            serde_json::Value::Object(table.iter().map(entry).collect::<Read<_>>()?)
        }
    })
}

/// A setting of librdkafka, which are all text.
pub(super) fn setting(node: &Node) -> Read<String> {
    match &node.value {
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
            Ok(json(node)?.as_str().map_or_else(|| shown(node), str::to_owned))
        }
        _ => is_not(
            node,
            "a setting",
            "text, a number, true or false; quote keys with dots: \"security.protocol\" = \"ssl\"",
        ),
    }
}

fn is_off(node: &Node) -> bool {
    matches!(&node.value, Value::Boolean(false))
        || matches!(&node.value, Value::Text(text) if text.eq_ignore_ascii_case("off"))
}
