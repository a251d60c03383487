//! Which interpreter a program file names: the `#!` line of a script, or an ELF file's dynamic loader.

use std::os::fd::BorrowedFd;

use nix::sys::uio::pread;

/// Bytes of a file's head that are looked at, as many as the kernel does (BINPRM_BUF_SIZE).
pub(crate) const HEAD: usize = 256;

const ELF_PROGRAM_HEADER: u8 = 56;
const PT_INTERP: u32 = 3;

/// The interpreter that `file` names, or nothing. `head` is scratch memory; nothing is allocated.
pub(crate) fn named_by<'h>(file: BorrowedFd<'_>, head: &'h mut [u8; HEAD]) -> &'h [u8] {
    let Ok(length) = pread(file, head, 0) else {
        return b"";
    };
    if head.starts_with(b"#!") {
        return shebang(&head[2..length]);
    }
    if !head.starts_with(b"\x7fELF\x02\x01") || length < 64 {
        return b"";
    }
    let Some((offset, size)) = elf_interpreter(file, head) else {
        return b"";
    };
    let size = size.min(HEAD);
    match pread(file, &mut head[..size], offset) {
        Ok(length) => head[..length]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default(),
        Err(_) => b"",
    }
}

/// The kernel cuts at the end of the line and at blanks; a carriage return it takes as part of the name.
fn shebang(line: &[u8]) -> &[u8] {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.split(|byte| matches!(byte, b' ' | b'\t' | 0))
        .find(|word| !word.is_empty())
        .unwrap_or_default()
}

/// Offset and size of the PT_INTERP segment of a 64-bit little-endian ELF file (elf(5)).
fn elf_interpreter(file: BorrowedFd<'_>, head: &[u8; HEAD]) -> Option<(i64, usize)> {
    let table = i64::from_le_bytes(head[32..40].try_into().ok()?);
    let count = u16::from_le_bytes(head[56..58].try_into().ok()?);
    for index in 0..i64::from(count.min(64)) {
        let mut header = [0_u8; ELF_PROGRAM_HEADER as usize];
        let at = table.checked_add(index * i64::from(ELF_PROGRAM_HEADER))?;
        if pread(file, &mut header, at).ok()? < header.len() {
            return None;
        }
        if u32::from_le_bytes(header[0..4].try_into().ok()?) == PT_INTERP {
            let offset = i64::from_le_bytes(header[8..16].try_into().ok()?);
            let size = u64::from_le_bytes(header[32..40].try_into().ok()?);
            return Some((offset, usize::try_from(size).ok()?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn interpreter_of(content: &[u8]) -> Vec<u8> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        named_by(file.as_fd(), &mut [0; HEAD]).to_vec()
    }

    #[test]
    fn a_scripts_first_line_names_it() {
        assert_eq!(
            interpreter_of(b"#! /usr/bin/env python3\nprint()\n"),
            b"/usr/bin/env"
        );
        assert_eq!(interpreter_of(b"#!/bin/sh"), b"/bin/sh");
    }

    #[test]
    fn a_carriage_return_is_part_of_the_name_as_for_the_kernel() {
        assert_eq!(interpreter_of(b"#!/bin/sh\r\n"), b"/bin/sh\r");
    }

    #[test]
    fn anything_else_names_none() {
        assert_eq!(interpreter_of(b""), b"");
        assert_eq!(interpreter_of(b"plain text"), b"");
        assert_eq!(interpreter_of(b"\x7fELF\x02\x01 but no more of it"), b"");
    }
}
