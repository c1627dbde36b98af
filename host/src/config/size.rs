//! Sizes in bytes as people write them: `128MB`, `64MiB`, `1000000`.

/// What to write instead, for messages.
pub(super) const EXAMPLES: &str = "128MB, 64MiB or 1GB";

/// Units by bytes, the largest first. Those of a thousand have no `i`.
const UNITS: [(u64, &str); 9] = [
    (1 << 40, "TiB"),
    (1_000_000_000_000, "TB"),
    (1 << 30, "GiB"),
    (1_000_000_000, "GB"),
    (1 << 20, "MiB"),
    (1_000_000, "MB"),
    (1 << 10, "KiB"),
    (1_000, "KB"),
    (1, "B"),
];

/// Reads a number of bytes: a whole number, with a unit or without (bytes), in any case.
///
/// # Errors
/// What is wrong with `text` and what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len()));
    let unit = unit.trim();
    let size = UNITS.iter().find(|(_, name)| name.eq_ignore_ascii_case(unit)).map(|(size, _)| *size);
    let size = if unit.is_empty() { Some(1) } else { size };
    match (number.parse::<u64>(), size) {
        (Ok(number), Some(size)) => number
            .checked_mul(size)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .ok_or_else(|| format!("{text:?} is too large; write {EXAMPLES}")),
        _ if trimmed.starts_with('-') => Err(format!("{text:?} is negative; write {EXAMPLES}")),
        _ => Err(format!("{text:?} is not a size; write {EXAMPLES}")),
    }
}

/// Writes a number of bytes so that [`parse_size`] reads the same: in the largest unit that needs no fraction.
pub fn format_size(bytes: u64) -> String {
    UNITS
        .iter()
        .find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size))
        .map_or_else(|| "0B".into(), |(size, name)| format!("{}{name}", bytes / size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_of_a_thousand_and_of_1024() {
        assert_eq!(parse_size("128MB"), Ok(128_000_000));
        assert_eq!(parse_size("64 MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1gb"), Ok(1_000_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
    }

    #[test]
    fn what_is_not_a_size_says_what_would_be() {
        for text in ["", "MB", "12 parsecs", "1.5MB", "64m"] {
            assert_eq!(parse_size(text).unwrap_err(), format!("{text:?} is not a size; write 128MB, 64MiB or 1GB"));
        }
        assert!(parse_size("-1MB").unwrap_err().contains("is negative"));
        assert!(parse_size("99999999TiB").unwrap_err().contains("is too large"));
    }

    proptest! {
        #[test]
        fn what_is_formatted_parses_to_the_same(bytes in 0..=i64::MAX as u64, zeros in 0..12_u32) {
            let bytes = bytes / 1000_u64.pow(zeros / 2) * 1000_u64.pow(zeros / 2);
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
