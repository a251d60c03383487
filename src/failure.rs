//! Why palisade stopped, in one line, and what to do about it, in another.

use std::fmt;

/// An error as the user sees it. Its exit code is 125 unless the command was found missing or not executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    remedy: String,
    code: u8,
}

/// palisade itself failed, before the command ran.
pub const EXIT_PALISADE: u8 = 125;

impl Failure {
    /// A failure with what to do now.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let message = message.into();
        // A library's second line says what to do, and knows better than what is said of all its errors.
        let (message, remedy) = match message.split_once('\n') {
            Some((first, more)) => (first.to_owned(), more.trim().to_owned()),
            None => (message, remedy.into()),
        };
        Self {
            message,
            remedy,
            code: EXIT_PALISADE,
        }
    }

    /// With an exit code of its own.
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What to do.
    #[cfg(test)]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Both lines, as they are printed. Control characters are escaped: a message may quote an image's bytes.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}\n", printable(&self.message));
        if !self.remedy.is_empty() {
            text.push_str("  try: ");
            text.push_str(&printable(&self.remedy));
            text.push('\n');
        }
        text
    }
}

/// What the kernel said, without the number that Rust puts behind it.
pub fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One line that a terminal shows as it is.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

impl From<crate::format::Error> for Failure {
    fn from(error: crate::format::Error) -> Self {
        Self::new(error.message, error.remedy)
    }
}
