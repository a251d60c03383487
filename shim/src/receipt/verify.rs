//! Whether receipts are what palisade wrote: bytes, digest, signature, and place in their chain.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::key::PublicKey;
use super::log::{Link, is_locked, shared_lock};
use super::{canonical, seal};
use crate::Error;

/// The most that one receipt can be: arguments and environment of a command are at most a few MiB (execve(2)).
const MOST: u64 = 64 << 20;

/// What the receipts are expected to be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Who must have signed them.
    pub key: Option<PublicKey>,
    /// Digest of the receipt before the first, where that is not the first of all.
    pub after: Option<String>,
    /// Digest of the last.
    pub head: Option<String>,
}

/// One receipt, and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its file.
    pub file: PathBuf,
    /// Its line, counted from 1, where the file is a log.
    pub line: Option<u64>,
    /// The sandbox's id.
    pub id: Option<String>,
    /// The receipt's digest, as it says itself.
    pub digest: Option<String>,
    /// Its place in a chain.
    pub sequence: Option<u64>,
    /// Exit code of the run.
    pub exit_code: Option<u64>,
    /// Why it ended.
    pub reason: Option<String>,
    /// Id of the key that its envelope names.
    pub key: Option<String>,
    /// Whether that signature was checked.
    pub signature_checked: bool,
    /// What is wrong, a sentence each; none for a good one.
    pub faults: Vec<String>,
}

/// Checks receipts, and logs of them, in the order given. Receipts that are in a chain must follow each other without a gap.
///
/// # Errors
///
/// [`Error::ReceiptFile`] for a file that cannot be read: nothing is said of what it holds.
pub fn verify(files: &[PathBuf], expected: &Expected) -> Result<Vec<Checked>, Error> {
    let mut chain = Chain::default();
    let mut all = Vec::new();
    for path in files {
        read(path, |document| {
            let (mut checked, link) = check(path, document, expected);
            if checked.faults.is_empty() || link.is_some() {
                chain.follow(&mut checked, link, document, expected);
            }
            all.push(checked);
        })
        .map_err(|source| Error::ReceiptFile {
            path: path.clone(),
            source,
        })?;
    }
    chain.end(&mut all, expected);
    Ok(all)
}

/// The receipt in a file, without its envelope, whether it is good or not.
///
/// # Errors
///
/// [`Error::ReceiptFile`] where there is none.
pub fn read_receipts(path: &Path) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    let mut problem = None;
    let failed = |source| Error::ReceiptFile {
        path: path.into(),
        source,
    };
    read(path, |document| {
        let opened = parse(document).and_then(|value| seal::open(value, None));
        match opened {
            Ok(sealed) => all.push(sealed.receipt),
            Err(why) => problem = problem.take().or(Some(why)),
        }
    })
    .map_err(failed)?;
    match problem {
        Some(why) => Err(failed(io::Error::new(io::ErrorKind::InvalidData, why))),
        None => Ok(all),
    }
}

/// The text of one receipt.
struct Document<'t> {
    text: &'t [u8],
    /// Its line in a log.
    line: Option<u64>,
    /// Whether another palisade has it locked.
    locked: bool,
}

/// Hands over one receipt after the other: a log has one to a line, any other file one alone.
fn read(path: &Path, mut each: impl FnMut(&Document)) -> io::Result<()> {
    let file = File::open(path)?;
    let locked = is_locked(&file);
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    let next = |text: &mut Vec<u8>, reader: &mut BufReader<File>| {
        text.clear();
        reader.by_ref().take(MOST).read_until(b'\n', text)
    };
    next(&mut text, &mut reader)?;
    // A receipt of its own begins with a brace on a line of its own.
    if text.len() <= 2 {
        reader.take(MOST).read_to_end(&mut text)?;
        each(&Document {
            text: &text,
            line: None,
            locked,
        });
        return Ok(());
    }
    // Whoever appends to it now is let finish.
    shared_lock(reader.get_ref())?;
    reader.rewind()?;
    next(&mut text, &mut reader)?;
    let mut line = 1;
    while !text.is_empty() {
        each(&Document {
            text: &text,
            line: Some(line),
            locked: false,
        });
        line += 1;
        next(&mut text, &mut reader)?;
    }
    Ok(())
}

fn parse(document: &Document) -> Result<Value, String> {
    if document.text.is_empty() {
        return Err("there is nothing in it: no run that it is of has ended".to_owned());
    }
    let value: Value = serde_json::from_slice(document.text)
        .map_err(|error| format!("it is damaged, and no JSON: {error}"))?;
    Ok(value)
}

/// Everything about one receipt but its place in the chain.
fn check(path: &Path, document: &Document, expected: &Expected) -> (Checked, Option<Link>) {
    let mut checked = Checked {
        file: path.into(),
        line: document.line,
        id: None,
        digest: None,
        sequence: None,
        exit_code: None,
        reason: None,
        key: None,
        signature_checked: false,
        faults: Vec::new(),
    };
    let value = match parse(document) {
        Ok(value) => value,
        Err(fault) => {
            checked.faults.push(fault);
            return (checked, None);
        }
    };
    let written = match document.line {
        Some(_) => canonical::text(&value) + "\n",
        None => canonical::indented(&value),
    };
    if written.as_bytes() != document.text {
        let fault = "its text is not as palisade writes it: it was changed, or cut short";
        checked.faults.push(fault.to_owned());
    }
    let sealed = match seal::open(value, expected.key.as_ref()) {
        Ok(sealed) => sealed,
        Err(fault) => {
            checked.faults.push(fault);
            return (checked, None);
        }
    };
    let receipt = &sealed.receipt;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let link = Link::of(receipt);
    checked.id = text(&receipt["id"]);
    checked.digest = text(&receipt["digest"]);
    checked.sequence = link.as_ref().map(|link| link.sequence);
    checked.exit_code = receipt["result"]["exit_code"].as_u64();
    checked.reason = text(&receipt["result"]["reason"]);
    checked.signature_checked = sealed.key.is_some() && expected.key.is_some();
    checked.key = sealed.key;
    checked.faults.extend(sealed.faults);
    if receipt["state"] != "ended" {
        checked.faults.push(
            if document.locked {
                "the run has not ended yet"
            } else {
                "the run never ended: palisade was killed"
            }
            .to_owned(),
        );
    }
    (checked, link)
}

/// What came before, of the receipts that are in a chain.
#[derive(Default)]
struct Chain {
    last: Option<Link>,
    /// Every digest so far, and its sequence number.
    seen: BTreeMap<String, u64>,
    /// What to say of the first if it is not alone.
    beginning: Option<(usize, String)>,
    count: usize,
}

impl Chain {
    fn follow(
        &mut self,
        checked: &mut Checked,
        link: Option<Link>,
        document: &Document,
        expected: &Expected,
    ) {
        self.count += 1;
        let Some(link) = link else {
            if document.line.is_some() {
                let fault = "it has no place in a chain, as every receipt of a log has";
                checked.faults.push(fault.to_owned());
            }
            return;
        };
        let first_of_all = link.previous.is_none() && link.sequence == 1;
        match &self.last {
            None if link.previous == expected.after => {}
            None if expected.after.is_some() => {
                let fault = "the receipt before it is not the one expected";
                checked.faults.push(fault.to_owned());
            }
            None => {
                let fault = format!("{} before it are missing", receipts(link.sequence - 1));
                if document.line.is_some() {
                    checked.faults.push(fault);
                } else {
                    self.beginning = Some((self.count - 1, fault));
                }
            }
            // Every log is a chain of its own.
            Some(_) if first_of_all && document.line == Some(1) => {}
            Some(last) => checked.faults.extend(self.gap(last, &link)),
        }
        self.seen.insert(link.digest.clone(), link.sequence);
        self.last = Some(link);
    }

    /// What is wrong between two that follow each other here.
    fn gap(&self, last: &Link, link: &Link) -> Option<String> {
        let follows = link.previous.as_ref() == Some(&last.digest);
        if follows && link.sequence == last.sequence + 1 {
            return None;
        }
        Some(if follows {
            format!("its number is {}, after {}", link.sequence, last.sequence)
        } else if self.seen.contains_key(&link.digest) {
            format!("it is here twice, as number {}", link.sequence)
        } else if link.sequence <= last.sequence {
            format!(
                "it is out of order: number {} after {}",
                link.sequence, last.sequence
            )
        } else if link.sequence > last.sequence + 1 {
            let missing = link.sequence - last.sequence - 1;
            format!("{} before it are missing", receipts(missing))
        } else {
            "the receipt before it is not the one that it names: that one was replaced".to_owned()
        })
    }

    fn end(self, all: &mut [Checked], expected: &Expected) {
        // A receipt by itself is checked by itself.
        if let Some((index, fault)) = self.beginning.filter(|_| all.len() > 1)
            && let Some(checked) = all.get_mut(index)
        {
            checked.faults.push(fault);
        }
        if let (Some(head), Some(last)) = (&expected.head, all.last_mut())
            && last.digest.as_ref() != Some(head)
        {
            let fault = format!("it is not the last, which is {head}: what follows it is missing");
            last.faults.push(fault);
        }
    }
}

fn receipts(count: u64) -> String {
    match count {
        1 => "1 receipt".to_owned(),
        _ => format!("{count} receipts"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::{Checked, Expected, verify};
    use crate::receipt::log::Log;
    use crate::receipt::{SCHEMA, canonical};

    /// Five receipts in a log, and each in a file of its own.
    struct Five {
        directory: tempfile::TempDir,
        log: PathBuf,
        files: Vec<PathBuf>,
        receipts: Vec<Value>,
    }

    fn five() -> Five {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut files = Vec::new();
        let mut receipts = Vec::new();
        for number in 0..5 {
            let receipt = json!({"schema": SCHEMA, "id": number.to_string(), "state": "ended"});
            let sealed = Log::open(&log).unwrap().append(receipt, None).unwrap();
            let file = directory.path().join(number.to_string());
            fs::write(&file, canonical::indented(&sealed)).unwrap();
            files.push(file);
            receipts.push(sealed);
        }
        Five {
            directory,
            log,
            files,
            receipts,
        }
    }

    fn faults(files: &[PathBuf], expected: &Expected) -> Vec<String> {
        let all: Vec<Checked> = verify(files, expected).unwrap();
        all.into_iter().flat_map(|checked| checked.faults).collect()
    }

    #[test]
    fn an_untouched_chain_is_good_as_a_log_and_as_files() {
        let five = five();
        let none = Vec::<String>::new();
        assert_eq!(
            faults(std::slice::from_ref(&five.log), &Expected::default()),
            none
        );
        assert_eq!(faults(&five.files, &Expected::default()), none);
        assert_eq!(faults(&five.files[3..4], &Expected::default()), none);
        let rest = Expected {
            after: five.receipts[1]["digest"].as_str().map(str::to_owned),
            head: five.receipts[4]["digest"].as_str().map(str::to_owned),
            key: None,
        };
        assert_eq!(faults(&five.files[2..], &rest), none);
    }

    #[test]
    fn a_removed_a_moved_and_a_repeated_receipt_are_found_wherever_they_were() {
        let five = five();
        let lines = fs::read_to_string(&five.log).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        let wrong = |order: &[usize]| {
            let text: String = order.iter().map(|&n| lines[n].to_owned() + "\n").collect();
            let log = five.directory.path().join("changed");
            fs::write(&log, text).unwrap();
            assert!(
                !faults(&[log], &Expected::default()).is_empty(),
                "{order:?}"
            );
            let files: Vec<_> = order.iter().map(|&n| five.files[n].clone()).collect();
            assert!(
                !faults(&files, &Expected::default()).is_empty(),
                "{order:?}"
            );
        };
        for removed in 0..4 {
            let order: Vec<usize> = (0..5).filter(|&n| n != removed).collect();
            wrong(&order);
        }
        for (one, other) in [(0, 1), (1, 2), (0, 4), (3, 4)] {
            let mut order = [0, 1, 2, 3, 4];
            order.swap(one, other);
            wrong(&order);
        }
        wrong(&[0, 1, 1, 2, 3, 4]);
    }

    #[test]
    fn receipts_removed_from_the_end_are_found_by_the_expected_last() {
        let five = five();
        let expected = Expected {
            head: five.receipts[4]["digest"].as_str().map(str::to_owned),
            ..Expected::default()
        };
        assert_eq!(faults(&five.files[..4], &expected).len(), 1);
    }

    #[test]
    fn every_changed_byte_of_a_log_is_found_and_named_by_its_line() {
        let five = five();
        let good = fs::read(&five.log).unwrap();
        let changed = five.directory.path().join("changed");
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 1;
            fs::write(&changed, &bytes).unwrap();
            let all = verify(std::slice::from_ref(&changed), &Expected::default()).unwrap();
            let line = good[..index].split(|&byte| byte == b'\n').count() as u64;
            let found = all.iter().any(|checked| {
                !checked.faults.is_empty() && checked.line.is_none_or(|at| at >= line)
            });
            assert!(found, "byte {index}");
        }
    }

    #[test]
    fn every_changed_byte_of_a_receipt_of_its_own_is_found() {
        let five = five();
        let good = fs::read(&five.files[0]).unwrap();
        for index in 0..good.len() {
            for change in [1, 0x29] {
                let mut bytes = good.clone();
                bytes[index] ^= change;
                fs::write(&five.files[0], &bytes).unwrap();
                let found = faults(&five.files[..1], &Expected::default());
                assert!(!found.is_empty(), "byte {index}");
            }
        }
    }
}
