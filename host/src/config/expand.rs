//! Expansion of `${VAR}` and `${VAR:-default}` inside one string of a pipeline file.

/// How deep variables may stand in the defaults of others: people write one or two.
const MAX_DEPTH: usize = 16;

/// A string after expansion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The text.
    pub(super) text: String,
    /// The variables whose values are in it.
    pub(super) variables: Vec<String>,
}

/// Expands `text`: `${VAR}` must be set; `${VAR:-default}` is the default when `VAR` is unset or empty, as in a shell,
/// and the default may hold variables itself; `$$` is a dollar sign, and so is a `$` before anything else.
/// A variable's value is taken as it is, never expanded again.
///
/// # Errors
/// A sentence per variable that is unset and has no default, or per form that is not one of the above.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Vec<String>> {
    expand_at(0, text, env)
}

fn expand_at(depth: usize, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Vec<String>> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), variables: Vec::new() };
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.text.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.text.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let Some(end) = closing_brace(after) else {
                wrong.push(
                    "\"${\" has no closing brace; write ${VAR} or ${VAR:-default}, or $$ for a dollar sign".into(),
                );
                break;
            };
            let (inside, after) = after.split_at(end);
            substitute(depth, inside, env, &mut expanded, &mut wrong);
            after.strip_prefix('}').unwrap_or(after)
        } else {
            expanded.text.push('$');
            after
        };
    }
    expanded.text.push_str(rest);
    if wrong.is_empty() { Ok(expanded) } else { Err(wrong) }
}

/// Appends what `${inside}` stands for.
fn substitute(
    depth: usize,
    inside: &str,
    env: &dyn Fn(&str) -> Option<String>,
    into: &mut Expanded,
    wrong: &mut Vec<String>,
) {
    let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
    let first_is_digit = name.starts_with(|c: char| c.is_ascii_digit());
    if name.is_empty() || first_is_digit || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        wrong.push(format!(
            "${{{inside}}} is not a variable; write ${{VAR}} or ${{VAR:-default}}, or $$ for a dollar sign"
        ));
        return;
    }
    match (env(name), default) {
        (Some(value), default) if default.is_none() || !value.is_empty() => {
            into.text.push_str(&value);
            into.variables.push(name.to_owned());
        }
        (_, Some(_)) if depth == MAX_DEPTH => {
            wrong.push(format!("variables stand in defaults of variables more than {MAX_DEPTH} deep; write fewer"));
        }
        (_, Some(default)) => match expand_at(depth + 1, default, env) {
            Ok(default) => {
                into.text.push_str(&default.text);
                into.variables.extend(default.variables);
            }
            Err(more) => wrong.extend(more),
        },
        _ => wrong.push(format!("the environment variable {name} is not set; set it or write ${{{name}:-default}}")),
    }
}

/// The index of the brace that closes the one just before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if i > 0 && text.as_bytes().get(i - 1) == Some(&b'$') => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "TOPIC" => Some("clicks".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("a\"\n[x] ${TOPIC} $$".into()),
            _ => None,
        }
    }

    fn text(from: &str) -> String {
        expand(from, &env).unwrap().text
    }

    #[test]
    fn a_set_variable_beats_its_default() {
        assert_eq!(text("${TOPIC}"), "clicks");
        assert_eq!(text("x-${TOPIC:-events}-y"), "x-clicks-y");
        assert_eq!(expand("${TOPIC} ${NO:-1}", &env).unwrap().variables, ["TOPIC"]);
    }

    #[test]
    fn an_empty_variable_takes_the_default_as_in_a_shell() {
        assert_eq!(text("${EMPTY:-events}"), "events");
        assert_eq!(text("${EMPTY}"), "");
        assert_eq!(text("${NO:-}"), "");
    }

    #[test]
    fn a_default_may_hold_a_variable_and_a_brace_of_json() {
        assert_eq!(text("${NO:-${TOPIC}-2}"), "clicks-2");
        assert_eq!(text("${NO:-${NEITHER:-x}}y"), "xy");
    }

    #[test]
    fn defaults_without_end_are_refused_before_the_stack_is_used_up() {
        let nested = |levels: usize| format!("{}x{}", "${NO:-".repeat(levels), "}".repeat(levels));
        assert_eq!(text(&nested(MAX_DEPTH)), "x");
        let wrong = expand(&nested(150_000), &env).unwrap_err();
        assert!(wrong[0].contains("more than 16 deep"), "{wrong:?}");
    }

    #[test]
    fn a_value_is_never_expanded_again() {
        assert_eq!(text("${TRICKY}"), "a\"\n[x] ${TOPIC} $$");
    }

    #[test]
    fn two_dollars_are_one_and_a_lone_one_stays() {
        assert_eq!(text("$${TOPIC} costs 5$ or $5"), "${TOPIC} costs 5$ or $5");
    }

    #[test]
    fn every_wrong_form_is_said() {
        let wrong = |from| expand(from, &env).unwrap_err().join("|");
        assert_eq!(wrong("${NO}"), "the environment variable NO is not set; set it or write ${NO:-default}");
        assert_eq!(wrong("${NO} ${ALSO_NO}").matches("is not set").count(), 2);
        assert!(wrong("${TOPIC").contains("no closing brace"));
        assert!(wrong("${TO PIC}").starts_with("${TO PIC} is not a variable"));
        assert!(wrong("${}").starts_with("${} is not a variable"));
        assert!(wrong("${1}").starts_with("${1} is not a variable"));
    }
}
