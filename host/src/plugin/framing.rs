//! Whether a file in the WebAssembly format is there to its end: while it is being written, it is not.

/// How long the magic and the version are, which begin every such file.
const PREAMBLE_BYTES: usize = 8;

/// The magic.
const MAGIC: &[u8] = b"\0asm";

/// Whether these bytes begin as a module or component does, and end where a section of it ends. Nothing else of it is
/// looked at, so that a file that is whole and wrong is refused by those who can say why.
///
/// # Source
/// The binary format of modules, section 5.5.2, and of components: a section is an id, its size in LEB128, and so many
/// bytes.
pub fn is_whole(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(MAGIC).and(bytes.get(PREAMBLE_BYTES..)) else { return false };
    if rest.is_empty() {
        // A component without sections is what a file is that has just been begun.
        return false;
    }
    while let Some((_id, section)) = rest.split_first() {
        let Some((size, contents)) = size(section) else { return false };
        let Some(next) = contents.get(size..) else { return false };
        rest = next;
    }
    true
}

/// A size of at most 32 bits in LEB128, and what follows it.
fn size(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut size = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        size |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(size).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component() -> Vec<u8> {
        let wat = r#"(component (core module (func (export "f")) (data "twelve bytes")) (component))"#;
        wat::parse_str(wat).unwrap()
    }

    #[test]
    fn a_component_and_a_module_are_whole() {
        assert!(is_whole(&component()));
        assert!(is_whole(&wat::parse_str("(module (func))").unwrap()));
    }

    #[test]
    fn a_file_that_is_cut_is_whole_only_where_a_section_ends() {
        let whole = component();
        let cuts: Vec<usize> = (0..whole.len()).filter(|&cut| is_whole(&whole[..cut])).collect();
        // Between the two sections of it, and wherever else one of the binary format's own ends.
        assert!(cuts.len() < 5 && cuts.iter().all(|cut| *cut > PREAMBLE_BYTES), "{cuts:?} of {}", whole.len());
        let longer = [&whole[..], b"\0"].concat();
        assert!(!is_whole(&longer));
    }

    proptest! {
        #[test]
        fn sections_are_whole_and_nothing_shorter_by_a_byte_is(
            sections in proptest::collection::vec((0_u8..12, proptest::collection::vec(any::<u8>(), 1..300)), 1..4),
        ) {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            for (id, contents) in &sections {
                let size = contents.len() as u16;
                bytes.extend([*id, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8]);
                bytes.extend(contents);
            }
            prop_assert!(is_whole(&bytes));
            bytes.pop();
            prop_assert!(!is_whole(&bytes));
        }

        #[test]
        fn no_bytes_are_misread(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(!is_whole(&bytes) || bytes.starts_with(MAGIC));
            // A size that goes past the end, whatever follows.
            is_whole(&[b"\0asm\x0d\0\x01\0", &bytes[..]].concat());
        }
    }

    #[test]
    fn what_is_no_webassembly_is_not_whole() {
        for bytes in
            [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0", b"#!/bin/sh\n", b"\0asm\x0d\0\x01\0\0\xff\xff\xff\xff\xff\x01"]
        {
            assert!(!is_whole(bytes), "{bytes:?}");
        }
    }
}
