//! Whose a checkpoint is: what of a pipeline its state depends on, and in what another one differs.

/// What the state depends on, a line of `key: value` each, in the words of the pipeline file.
pub fn fingerprint(words: impl IntoIterator<Item = (String, String)>) -> String {
    let lines: Vec<String> = words.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
    lines.join("\n")
}

/// In what two fingerprints differ, a sentence each; `sides` say where the one and the other is. What follows from a change
/// of `key`, as `key …`, is not said as well.
pub fn changes(one: &str, other: &str, sides: [&str; 2]) -> Vec<String> {
    let [first, second] = sides;
    let (one, other) = (lines(one), lines(other));
    let value =
        |lines: &[(&str, &str)], key: &str| lines.iter().find(|line| line.0 == key).map(|line| line.1.to_owned());
    let mut said: Vec<(&str, String)> = Vec::new();
    for &(key, _) in one.iter().chain(&other) {
        let (of, change) = match (value(&one, key), value(&other, key)) {
            (Some(was), Some(is)) if was != is => (key, format!("{key}: {was} {first}, {is} {second}")),
            (Some(_), None) => (whole(key), format!("{} {first} only", whole(key))),
            (None, Some(_)) => (whole(key), format!("{} {second} only", whole(key))),
            _ => continue,
        };
        let follows = |rest: &str| rest.is_empty() || rest.starts_with(['.', ' ']);
        if !said.iter().any(|(said, _)| key.strip_prefix(said).is_some_and(follows)) {
            said.push((of, change));
        }
    }
    said.into_iter().map(|(_, change)| change).collect()
}

fn lines(fingerprint: &str) -> Vec<(&str, &str)> {
    fingerprint.lines().map(|line| line.split_once(": ").unwrap_or((line, ""))).collect()
}

/// What is missing as a whole where this key is: `aggregate.pages` of `aggregate.pages.window`.
fn whole(key: &str) -> &str {
    key.match_indices('.').nth(1).map_or(key, |(end, _)| &key[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: [&str; 2] = ["in the checkpoint", "in the file"];

    fn aggregate(name: &str, window: &str) -> [(String, String); 2] {
        let key = |of: &str| format!("aggregate.{name}.{of}");
        [(key("window"), window.to_owned()), (key("keys"), "[\"page\"]".to_owned())]
    }

    #[test]
    fn only_what_differs_is_said() {
        let of = |window| fingerprint(aggregate("pages", window));
        assert_eq!(
            changes(&of("{ tumbling = \"30s\" }"), &of("{ tumbling = \"1m\" }"), SIDES),
            ["aggregate.pages.window: { tumbling = \"30s\" } in the checkpoint, { tumbling = \"1m\" } in the file"]
        );
        assert_eq!(changes(&of("{}"), &of("{}"), SIDES), [""; 0]);
    }

    #[test]
    fn what_follows_from_a_change_is_not_said_as_well() {
        let of = |keys: &str, types: &str| format!("keys: {keys}\nkeys as the parser makes them: {types}");
        assert_eq!(
            changes(&of("a", "Utf8"), &of("a, b", "Utf8, Int64"), SIDES),
            ["keys: a in the checkpoint, a, b in the file"]
        );
        let types = "keys as the parser makes them: Utf8 in the checkpoint, Int64 in the file";
        assert_eq!(changes(&of("a", "Utf8"), &of("a", "Int64"), SIDES), [types]);
    }

    #[test]
    fn an_aggregate_of_one_side_is_said_once() {
        let pages = fingerprint(aggregate("pages", "{}"));
        let both = fingerprint(aggregate("pages", "{}").into_iter().chain(aggregate("geo", "{}")));
        assert_eq!(changes(&both, &pages, SIDES), ["aggregate.geo in the checkpoint only"]);
        let other = fingerprint(aggregate("pages_too", "{}"));
        assert_eq!(
            changes(&pages, &other, SIDES),
            ["aggregate.pages in the checkpoint only", "aggregate.pages_too in the file only"]
        );
        assert_eq!(changes(&pages, &both, SIDES), ["aggregate.geo in the file only"]);
    }
}
