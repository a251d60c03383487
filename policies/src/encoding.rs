//! What a plan that is kept on disk says in text: tiers by their words, seccomp programs as sixteen hexadecimal digits an
//! instruction.

use std::borrow::Cow;
use std::fmt::Write;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Instruction, Program, Tier};

/// Digits of one instruction: code, jt, jf, k.
const DIGITS: usize = 16;

impl Serialize for Tier {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        Self::from_word(&word).ok_or_else(|| D::Error::custom(format!("{word:?} is no tier")))
    }
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * DIGITS);
        for Instruction { code, jt, jf, k } in self.0.iter() {
            // Writing to a String does not fail.
            let _ = write!(text, "{code:04x}{jt:02x}{jf:02x}{k:08x}");
        }
        to.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        let whole = text.len().is_multiple_of(DIGITS) && !text.is_empty();
        let instructions = text.as_bytes().chunks(DIGITS).map(instruction);
        let instructions: Option<Vec<_>> = instructions.collect();
        match instructions {
            Some(instructions) if whole => Ok(Self(Cow::Owned(instructions))),
            _ => Err(D::Error::custom("not a seccomp program")),
        }
    }
}

fn instruction(digits: &[u8]) -> Option<Instruction> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let word = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let [c0, c1, jt, jf, k @ ..] = word.to_be_bytes();
    let code = u16::from_be_bytes([c0, c1]);
    let k = u32::from_be_bytes(k);
    Some(Instruction { code, jt, jf, k })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_same_after_it_was_written_and_read() {
        let program = Program(Cow::Owned(vec![
            Instruction {
                code: 0x20,
                jt: 0,
                jf: 255,
                k: u32::MAX,
            },
            Instruction {
                code: u16::MAX,
                jt: 1,
                jf: 2,
                k: 0x7fff_0000,
            },
        ]));
        let text = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), program);
    }

    #[test]
    fn a_text_that_is_cut_or_no_program_is_refused() {
        for odd in ["\"\"", "\"00\"", "\"+020000000000000\"", "7", "null"] {
            assert!(serde_json::from_str::<Program>(odd).is_err(), "{odd}");
        }
    }
}
