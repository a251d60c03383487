//! How far an image has come: bars on a terminal, plain lines elsewhere, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use palisade_rootfs::registry::{Event, Progress};
use palisade_rootfs::{Descriptor, Digest};
use serde_json::json;

use crate::failure::printable;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Quiet,
    Text,
    Json,
}

/// Which words are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Pull,
    Push,
}

/// Shows progress.
pub struct Show {
    stream: Stream,
    form: Form,
    words: Words,
    /// Columns and rows of the terminal; none if there is none.
    size: Option<(usize, usize)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: Vec<Layer>,
    /// Lines of bars that stand on the terminal now.
    drawn: usize,
    last: Option<Instant>,
}

struct Layer {
    digest: Digest,
    size: u64,
    at: u64,
    /// In words, once it is over.
    ended: Option<&'static str>,
}

/// Between two drawings of the bars.
const FRAME: Duration = Duration::from_millis(100);

impl Show {
    pub fn new(stream: Stream, form: Form, words: Words) -> Self {
        let terminal = match stream {
            Stream::Stdout => size_of(io::stdout()),
            Stream::Stderr => size_of(io::stderr()),
        };
        Self {
            stream,
            form,
            words,
            size: terminal.filter(|_| form == Form::Text),
            state: Mutex::default(),
        }
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        if self.form == Form::Text {
            self.write(&format!("{}\n", printable(text)));
        }
    }

    /// An object of `--json`.
    pub fn object(&self, object: &serde_json::Value) {
        if self.form == Form::Json {
            self.write(&format!("{object}\n"));
        }
    }

    /// Leaves the bars as they are at the end.
    pub fn finish(&self) {
        if self.size.is_some() {
            self.draw(&mut self.state());
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What cannot be shown is not worth an end: the image is still wanted.
    fn write(&self, text: &str) {
        let _ = match self.stream {
            Stream::Stdout => io::stdout().write_all(text.as_bytes()),
            Stream::Stderr => io::stderr().write_all(text.as_bytes()),
        };
    }

    fn end(&self, digest: Digest, word: &'static str, event: &str) {
        let mut state = self.state();
        let Some(layer) = state.layers.iter_mut().find(|l| l.digest == digest) else {
            return;
        };
        layer.ended = Some(word);
        if self.form == Form::Json {
            let object = json!({"event": event, "digest": digest.to_string(), "size": layer.size});
            self.object(&object);
        } else if self.size.is_some() {
            self.draw(&mut state);
        } else {
            self.line(&format!("{}: {word}", short(digest)));
        }
    }

    fn draw(&self, state: &mut State) {
        let Some((columns, rows)) = self.size else {
            return;
        };
        let mut text = String::new();
        if state.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", state.drawn);
        }
        // Those that are over stand above the screen's edge, where they are not drawn again.
        let most = rows.saturating_sub(2).max(1);
        let skip = state.layers.len().saturating_sub(most);
        for layer in &state.layers[skip..] {
            let _ = writeln!(text, "\x1b[2K{}", bar(layer, columns));
        }
        state.drawn = state.layers.len() - skip;
        state.last = Some(Instant::now());
        self.write(&text);
    }
}

impl Progress for Show {
    fn tell(&self, event: Event<'_>) {
        if self.form == Form::Quiet {
            return;
        }
        match event {
            Event::Planned(blobs) => self.plan(blobs),
            Event::At(digest, at) => {
                let mut state = self.state();
                if let Some(layer) = state.layers.iter_mut().find(|l| l.digest == digest) {
                    layer.at = at;
                }
                if self.size.is_some() && state.last.is_none_or(|last| last.elapsed() > FRAME) {
                    self.draw(&mut state);
                }
            }
            Event::Present(digest) => {
                let word = match self.words {
                    Words::Pull => "Already exists",
                    Words::Push => "Layer already exists",
                };
                self.end(digest, word, "layer-present");
            }
            Event::Mounted(digest) => self.end(digest, "Mounted", "layer-mounted"),
            Event::Done(digest) => {
                let word = match self.words {
                    Words::Pull => "Pull complete",
                    Words::Push => "Pushed",
                };
                self.end(digest, word, "layer-done");
            }
        }
    }
}

impl Show {
    fn plan(&self, blobs: &[Descriptor]) {
        let mut state = self.state();
        for blob in blobs {
            if state.layers.iter().all(|l| l.digest != blob.digest) {
                state.layers.push(Layer {
                    digest: blob.digest,
                    size: blob.size,
                    at: 0,
                    ended: None,
                });
            }
        }
        self.draw(&mut state);
    }
}

/// A layer's line of at most `columns` characters.
fn bar(layer: &Layer, columns: usize) -> String {
    const WIDTH: usize = 30;
    let id = short(layer.digest);
    let mut text = if let Some(word) = layer.ended {
        format!("{id}: {word}")
    } else if layer.at == 0 {
        format!("{id}: Waiting")
    } else {
        let size = layer.size.max(1);
        let filled = usize::try_from(layer.at.min(size) * WIDTH as u64 / size).unwrap_or(WIDTH);
        let bar = format!("{}>", "=".repeat(filled));
        format!(
            "{id}: [{bar:<31}] {}/{}",
            megabytes(layer.at),
            megabytes(layer.size)
        )
    };
    text.truncate(columns);
    text
}

/// docker's short form of a digest.
fn short(digest: Digest) -> String {
    let mut hex = digest.hex();
    hex.truncate(12);
    hex
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1}kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", bytes as f64 / 1e6),
        _ => format!("{:.2}GB", bytes as f64 / 1e9),
    }
}

fn size_of(stream: impl IsTerminal + AsFd) -> Option<(usize, usize)> {
    if !stream.is_terminal() {
        return None;
    }
    let size = palisade_runtime::terminal::window_size(stream).ok()?;
    let or = |value: u16, other: usize| {
        if value == 0 {
            other
        } else {
            usize::from(value)
        }
    };
    Some((or(size.ws_col, 80), or(size.ws_row, 24)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fits_its_columns_and_says_how_far_it_is() {
        let mut layer = Layer {
            digest: Digest::of(b""),
            size: 20_000_000,
            at: 0,
            ended: None,
        };
        assert_eq!(bar(&layer, 80), "e3b0c44298fc: Waiting");
        layer.at = 10_000_000;
        assert_eq!(
            bar(&layer, 80),
            "e3b0c44298fc: [===============>               ] 10.0MB/20.0MB"
        );
        assert_eq!(bar(&layer, 20).len(), 20);
        layer.ended = Some("Pull complete");
        assert_eq!(bar(&layer, 80), "e3b0c44298fc: Pull complete");
    }
}
