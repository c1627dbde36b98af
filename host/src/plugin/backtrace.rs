//! Where a guest was when it failed, in the words of its source: function, file, line.

use super::log::{cut, printable};
use wasmtime::{FrameInfo, FrameSymbol, WasmBacktrace};

/// A name with all its generic parameters may be longer than all that is told about a fault.
const MAX_NAME_BYTES: usize = 160;

/// One line per call, the innermost first; calls that the compiler merged into others have their own, where the
/// component's debug information tells of them.
pub(super) fn lines(trace: &WasmBacktrace) -> Vec<String> {
    trace.frames().iter().flat_map(calls).collect()
}

/// The calls that one frame stands for. The last is the function itself, whose name says its module, too.
fn calls(frame: &FrameInfo) -> Vec<String> {
    let Some((own, merged)) = frame.symbols().split_last() else { return vec![function(frame)] };
    let merged = merged.iter().map(|symbol| call(symbol, symbol.name().map_or_else(|| "?".to_owned(), plain)));
    merged.chain([call(own, function(frame))]).collect()
}

fn call(symbol: &FrameSymbol, name: String) -> String {
    match (symbol.file(), symbol.line()) {
        (Some(file), Some(line)) => format!("{name} at {}:{line}", printable(file)),
        (Some(file), None) => format!("{name} at {}", printable(file)),
        (None, _) => name,
    }
}

fn function(frame: &FrameInfo) -> String {
    frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), plain)
}

/// A function's name as its author wrote it, if it was Rust; any other as it is. Hostile names stay on their line.
pub(super) fn plain(name: &str) -> String {
    let demangled = format!("{:#}", rustc_demangle::demangle(name));
    // Linkers demangle too, but leave the hash that makes a symbol unique: `::h` and 16 digits.
    let hash = demangled.len().checked_sub(19).and_then(|at| demangled.split_at_checked(at));
    let is_hash = |end: &str| end.strip_prefix("::h").is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()));
    let whole = hash.filter(|(_, end)| is_hash(end)).map_or(demangled.as_str(), |(name, _)| name);
    let kept = cut(whole, MAX_NAME_BYTES);
    if kept.len() < whole.len() { format!("{}…", printable(kept)) } else { printable(kept) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_their_authors_wrote_them() {
        assert_eq!(plain("_ZN7hostile4trap17h0123456789abcdefE"), "hostile::trap");
        assert_eq!(plain("hostile::trap::h0123456789abcdef"), "hostile::trap");
        assert_eq!(plain("hostile::h"), "hostile::h");
        assert_eq!(plain("dlmalloc"), "dlmalloc");
    }

    #[test]
    fn a_hostile_name_stays_short_and_on_its_line() {
        assert_eq!(plain("a\nERROR b\u{1b}[2J"), "a\\nERROR b\\u{1b}[2J");
        let long = plain(&"é".repeat(1000));
        assert!(long.len() <= MAX_NAME_BYTES + '…'.len_utf8(), "{long}");
    }
}
