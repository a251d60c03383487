//! Maps of sparse files: the old GNU header, and PAX versions 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use super::fault::{Fault, broken};
use super::limits::MOST_PIECES;
use super::number;
use super::tar::BLOCK;

/// Offset and length of stored data.
pub(crate) type Piece = (u64, u64);

fn add(pieces: &mut Vec<Piece>, piece: Piece) -> Result<(), Fault> {
    if pieces.len() == MOST_PIECES {
        return broken("its sparse map has more than a million pieces");
    }
    pieces.push(piece);
    Ok(())
}

/// Checks that pieces are in order, inside the file, and as long as the stored data.
pub(crate) fn check(pieces: &[Piece], size: u64, stored: u64) -> Result<(), Fault> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for &(offset, length) in pieces {
        let Some(next) = offset
            .checked_add(length)
            .filter(|&next| offset >= end && next <= size)
        else {
            return broken("its sparse map is out of order or out of range");
        };
        end = next;
        sum += length;
    }
    if sum != stored || size > i64::MAX as u64 {
        return broken("its sparse map does not fit the stored data");
    }
    Ok(())
}

/// The old GNU form: four pieces in the header, 21 in each continuation block.
#[derive(Debug)]
pub(crate) struct Old {
    pub size: u64,
    pub pieces: Vec<Piece>,
    pub continues: bool,
}

impl Old {
    pub(crate) fn new(header: &[u8; BLOCK]) -> Result<Self, Fault> {
        let Some(size) = positive(&header[483..495]) else {
            return broken("its sparse size is not a number");
        };
        let mut map = Self {
            size,
            pieces: Vec::new(),
            continues: header[482] != 0,
        };
        map.read(&header[386..482])?;
        Ok(map)
    }

    pub(crate) fn extend(&mut self, block: &[u8; BLOCK]) -> Result<(), Fault> {
        self.continues = block[504] != 0;
        self.read(&block[..504])
    }

    fn read(&mut self, fields: &[u8]) -> Result<(), Fault> {
        for field in fields.chunks_exact(24).filter(|field| field[0] != 0) {
            let (Some(offset), Some(length)) = (positive(&field[..12]), positive(&field[12..]))
            else {
                return broken("its sparse map is not made of numbers");
            };
            add(&mut self.pieces, (offset, length))?;
        }
        Ok(())
    }
}

fn positive(field: &[u8]) -> Option<u64> {
    number::field(field).and_then(|value| u64::try_from(value).ok())
}

/// What `GNU.sparse.*` records say.
#[derive(Debug, Default)]
pub(crate) struct Pax {
    pub name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    map: Option<Vec<Piece>>,
    offset: Option<u64>,
}

impl Pax {
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        if key == b"name" {
            self.name = Some(value.to_vec());
            return Ok(());
        }
        if key == b"map" {
            self.map = Some(Vec::new());
            let mut numbers = value.split(|&b| b == b',');
            while let Some(offset) = numbers.next().filter(|text| !text.is_empty()) {
                let piece = number::decimal(offset).zip(numbers.next().and_then(number::decimal));
                self.piece(piece)?;
            }
            return Ok(());
        }
        let Some(value) = number::decimal(value) else {
            return broken("a sparse record is not a number");
        };
        match key {
            b"major" => self.major = Some(value),
            b"minor" => self.minor = Some(value),
            b"size" | b"realsize" => self.size = Some(value),
            b"offset" => self.offset = Some(value),
            b"numbytes" => {
                let piece = self.offset.take().map(|offset| (offset, value));
                self.piece(piece)?;
            }
            // The number of blocks is what is counted anyway.
            b"numblocks" => self.map = self.map.take().or_else(|| Some(Vec::new())),
            _ => {}
        }
        Ok(())
    }

    fn piece(&mut self, piece: Option<Piece>) -> Result<(), Fault> {
        let Some(piece) = piece else {
            return broken("its sparse map is malformed");
        };
        add(self.map.get_or_insert_default(), piece)
    }

    pub(crate) fn is_version_1(&self) -> bool {
        self.major == Some(1) && self.minor.unwrap_or(0) == 0
    }

    /// The map of versions 0.0 and 0.1; none for a file without holes.
    pub(crate) fn take_map(&mut self) -> Result<Option<Vec<Piece>>, Fault> {
        if self.major.is_some_and(|major| major != 0) {
            return broken("its sparse version is not known");
        }
        Ok(self.map.take())
    }

    pub(crate) fn real_size(&self) -> Result<u64, Fault> {
        self.size
            .ok_or_else(|| Fault::Archive("its sparse map has no size".to_owned()))
    }
}

/// Version 1.0: decimal numbers, one a line, before the data, padded to a block.
#[derive(Debug, Default)]
pub(crate) struct Map1 {
    text: Vec<u8>,
    /// Newlines seen so far, and how many there have to be once the first line is known.
    lines: usize,
    wanted: Option<usize>,
}

impl Map1 {
    pub(crate) fn extend(&mut self, block: &[u8; BLOCK]) -> Result<(), Fault> {
        self.text.extend_from_slice(block);
        self.lines += block.split(|&b| b == b'\n').count() - 1;
        if self.wanted.is_none() && self.lines > 0 {
            let first = self.text.split(|&b| b == b'\n').next().unwrap_or_default();
            let count = number::decimal(first).and_then(|count| usize::try_from(count).ok());
            let Some(count) = count.filter(|&count| count <= MOST_PIECES) else {
                return broken("its sparse map is not made of numbers, or too long");
            };
            self.wanted = Some(1 + 2 * count);
        }
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> Result<bool, Fault> {
        if self.wanted.is_none() && !self.text.is_empty() {
            return broken("its sparse map is not made of numbers");
        }
        Ok(self.wanted.is_some_and(|wanted| self.lines >= wanted))
    }

    pub(crate) fn pieces(&self) -> Result<Vec<Piece>, Fault> {
        let wanted = self.wanted.unwrap_or(1);
        let mut numbers = self
            .text
            .split(|&b| b == b'\n')
            .take(wanted)
            .skip(1)
            .map(number::decimal);
        let mut pieces = Vec::new();
        while let Some(offset) = numbers.next() {
            let (Some(offset), Some(Some(length))) = (offset, numbers.next()) else {
                return broken("its sparse map is not made of numbers");
            };
            add(&mut pieces, (offset, length))?;
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn maps_that_overlap_run_over_or_do_not_fit_the_data_are_refused() {
        assert!(check(&[(0, 5), (10, 5)], 20, 10).is_ok());
        assert!(check(&[], 20, 0).is_ok());
        assert!(check(&[(0, 5), (4, 5)], 20, 10).is_err());
        assert!(check(&[(18, 5)], 20, 5).is_err());
        assert!(check(&[(u64::MAX, 5)], 20, 5).is_err());
        assert!(check(&[(0, 5)], 20, 6).is_err());
    }

    #[test]
    fn pax_maps_of_both_old_versions_are_read() {
        let mut zero = Pax::default();
        for (key, value) in [
            ("size", "100"),
            ("numblocks", "1"),
            ("offset", "5"),
            ("numbytes", "7"),
        ] {
            zero.set(key.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!(
            (zero.take_map().unwrap(), zero.real_size().unwrap()),
            (Some(vec![(5, 7)]), 100)
        );
        let mut one = Pax::default();
        one.set(b"map", b"5,7,20,1").unwrap();
        assert_eq!(one.take_map().unwrap(), Some(vec![(5, 7), (20, 1)]));
        assert!(one.set(b"map", b"5").is_err());
        assert!(one.set(b"numbytes", b"5").is_err());
    }

    #[test]
    fn a_version_1_map_is_read_across_blocks() {
        let mut text = String::from("200\n");
        for i in 0..200 {
            writeln!(text, "{}\n1", i * 10).unwrap();
        }
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut map = Map1::default();
        let mut blocks = bytes.chunks_exact(BLOCK);
        while !map.is_complete().unwrap() {
            map.extend(blocks.next().unwrap().try_into().unwrap())
                .unwrap();
        }
        assert_eq!(map.pieces().unwrap().len(), 200);
        assert!(blocks.next().is_none());
    }
}
