//! Words of unit files, as systemd reads them: systemd.syntax(7), systemd.service(5) "Command lines", systemd.unit(5)
//! "Specifiers".

use std::fmt::Write;

/// Where a word stands in a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The program: `%` stands for something there.
    Program,
    /// An argument: `%` and `$` stand for something.
    Argument,
    /// A setting's value, or one of a list's: `%` stands for something.
    Value,
}

/// A word that systemd reads as `text`. A NUL byte, which no argument can hold, is left out.
pub fn word(text: &str, part: Part) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    let mut plain = !text.is_empty();
    for c in text.chars() {
        match c {
            '%' => quoted.push_str("%%"),
            '$' if part == Part::Argument => quoted.push_str("$$"),
            '\\' | '"' => {
                plain = false;
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => {
                plain = false;
                quoted.push_str("\\n");
            }
            '\t' => {
                plain = false;
                quoted.push_str("\\t");
            }
            '\0' => {}
            c if c.is_ascii_control() => {
                plain = false;
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => {
                // A line that ends in a backslash goes on, one that begins with # or ; is a comment, and a ; alone ends a command.
                plain &= !(c.is_whitespace() || matches!(c, '\'' | ';' | '#'));
                quoted.push(c);
            }
        }
    }
    if plain {
        quoted
    } else {
        format!("\"{quoted}\"")
    }
}

/// A text that fills the rest of a line, as a description does: on one line, with `%` for itself.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// systemd's reading of a command line, from the manual pages.
    fn read(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut characters = line.chars().peekable();
        while characters.peek().is_some() {
            if characters.next_if(|c| c.is_whitespace()).is_some() {
                continue;
            }
            let mut word = String::new();
            let mut quote = None;
            while let Some(c) = characters.next() {
                match (c, quote) {
                    ('"' | '\'', None) => quote = Some(c),
                    (c, Some(open)) if c == open => quote = None,
                    ('\\', _) => match characters.next().expect("nothing after a backslash") {
                        'n' => word.push('\n'),
                        't' => word.push('\t'),
                        'x' => {
                            let digits: String = characters.by_ref().take(2).collect();
                            let code = u32::from_str_radix(&digits, 16).expect("two digits");
                            word.push(char::from_u32(code).expect("a character"));
                        }
                        c @ ('\\' | '"' | '\'' | ' ') => word.push(c),
                        other => panic!("no escape: {other}"),
                    },
                    (c, None) if c.is_whitespace() => break,
                    (c, _) => word.push(c),
                }
            }
            assert_eq!(quote, None, "{line}");
            words.push(word);
        }
        let mut words = words.into_iter();
        let program = words.next().map(|word| word.replace("%%", "%"));
        let rest = words.map(|word| word.replace("%%", "%").replace("$$", "$"));
        program.into_iter().chain(rest).collect()
    }

    #[test]
    fn what_was_quoted_is_read_as_it_was() {
        let odd = [
            "/opt/my tools/pali$ade%",
            "run",
            "",
            " ",
            "a b",
            "it's",
            "say \"yes\"",
            "100%",
            "%n",
            "$HOME and ${HOME} and $$",
            "back\\slash\\",
            "two\nlines\n",
            "tab\there",
            "\u{1}\u{7f}",
            ";",
            "a;b",
            "# no comment",
            "ünïcode 漢字",
            "\\x41",
            "-",
            "@-:+!|",
        ];
        let mut line = word(odd[0], Part::Program);
        for argument in &odd[1..] {
            line.push(' ');
            line.push_str(&word(argument, Part::Argument));
        }
        assert!(!line.contains('\n'));
        assert_eq!(read(&line), odd);
    }

    #[test]
    fn plain_words_stay_plain() {
        for text in ["--name=web", "/usr/bin/palisade", "a,b:c=d", "sh"] {
            assert_eq!(word(text, Part::Argument), text);
        }
        assert_eq!(line("50% of\nit"), "50%% of it");
    }
}
