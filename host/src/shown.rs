//! Text of strangers, made fit for a terminal and a page: it shows what it is, and does nothing.

/// Whether a character does something instead of being seen: it moves the cursor, turns the direction of what follows, or
/// hides.
///
/// # Source
/// The Unicode Character Database 17, general categories Cc, Cf, Zl and Zp; and the tags of plane 14.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{70F}' | '\u{890}' | '\u{891}' | '\u{8E2}'
            | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}' | '\u{13430}'..='\u{1343F}'
            | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// The text on one line, with escapes for what is hidden.
pub fn shown(text: &str) -> String {
    escaped(text, is_hidden)
}

/// Text in which the control characters are the program's own, colours among them, with escapes for what else is hidden.
pub fn shown_in_colour(text: &str) -> String {
    escaped(text, |c| !c.is_ascii() && is_hidden(c))
}

fn escaped(text: &str, hides: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// The same with its lines as they are.
pub fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// JSON that means the same, with JSON's own escapes for what is hidden.
pub fn shown_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        // What JSON has of control characters is its own space.
        if is_hidden(c) && !c.is_ascii_control() {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_hides_or_moves_is_escaped_and_other_text_stays() {
        assert_eq!(shown("a\u{202E}b\n\u{1b}[2J\u{200B}"), "a\\u{202e}b\\n\\u{1b}[2J\\u{200b}");
        for text in ["plain", "größer", "日本語", "مرحبا", "🙂", "\\u{202e}"] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown_lines("a\nb\u{2066}\r"), "a\nb\\u{2066}\\r");
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{202E}": "b\u{E0041}\n\u{9b}" });
        let text = shown_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
