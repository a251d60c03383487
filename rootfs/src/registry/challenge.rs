//! What a registry asks for before it answers: the `WWW-Authenticate` header (RFC 9110, section 11.6.1; the distribution
//! specification's token authentication).

/// One way to authenticate that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and password (RFC 7617).
    Basic,
    /// A token that another address gives out (RFC 6750).
    Bearer {
        /// Where: an http or https address.
        realm: String,
        /// For whom; empty if the server does not say.
        service: String,
        /// For what, as the server sees it; empty if it does not say.
        scope: String,
    },
    /// A way palisade does not know, by its name in lower case.
    Other(String),
}

/// The longest header that is looked at, in bytes.
const LONGEST: usize = 8 << 10;
/// The most offers in one header.
const MOST: usize = 16;

impl Challenge {
    /// Reads a header's value, which may offer several ways.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(header: &str) -> Result<Vec<Self>, &'static str> {
        if header.len() > LONGEST {
            return Err("it is longer than 8 KiB");
        }
        let mut text = Text(header.as_bytes());
        let mut found = Vec::new();
        text.pass_separators();
        while !text.0.is_empty() {
            if found.len() == MOST {
                return Err("it offers more than 16 ways");
            }
            let scheme = text.token()?.to_ascii_lowercase();
            let parameters = text.parameters()?;
            found.push(Self::from_parts(scheme, parameters)?);
            text.pass_separators();
        }
        if found.is_empty() {
            return Err("it is empty");
        }
        Ok(found)
    }

    fn from_parts(scheme: String, parameters: Vec<(String, String)>) -> Result<Self, &'static str> {
        match scheme.as_str() {
            "basic" => Ok(Self::Basic),
            "bearer" => {
                let mut parts: [Option<String>; 3] = [None, None, None];
                for (name, value) in parameters {
                    let part = match name.as_str() {
                        "realm" => &mut parts[0],
                        "service" => &mut parts[1],
                        "scope" => &mut parts[2],
                        _ => continue,
                    };
                    if part.replace(value).is_some() {
                        return Err("a parameter occurs twice");
                    }
                }
                let [realm, service, scope] = parts;
                let realm = realm.ok_or("the realm is missing")?;
                let web = realm.starts_with("https://") || realm.starts_with("http://");
                // RFC 3986: an address is made of visible ASCII characters.
                if !web || !realm.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err("the realm is not an http or https address");
                }
                Ok(Self::Bearer {
                    realm,
                    service: service.unwrap_or_default(),
                    scope: scope.unwrap_or_default(),
                })
            }
            _ => Ok(Self::Other(scheme)),
        }
    }
}

/// What is left to be read.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn pass(&mut self, skip: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&b| !skip(b));
        let (passed, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        passed
    }

    fn pass_blanks(&mut self) {
        self.pass(is_blank);
    }

    fn pass_separators(&mut self) {
        self.pass(|b| is_blank(b) || b == b',');
    }

    fn token(&mut self) -> Result<&'a str, &'static str> {
        let token = self.pass(is_token);
        if token.is_empty() {
            return Err("a word is missing");
        }
        std::str::from_utf8(token).map_err(|_| "a word is not text")
    }

    /// The parameters after a scheme, up to the next scheme or the end.
    fn parameters(&mut self) -> Result<Vec<(String, String)>, &'static str> {
        let mut found = Vec::new();
        match self.0.first() {
            None | Some(b',') => return Ok(found),
            Some(&b) if is_blank(b) => self.pass_blanks(),
            Some(_) => return Err("a space is missing after the scheme"),
        }
        loop {
            let before = self.0;
            if self.0.is_empty() || (found.is_empty() && self.0[0] == b',') {
                return Ok(found);
            }
            let name = self.token()?.to_ascii_lowercase();
            self.pass_blanks();
            if self.0.first() != Some(&b'=') {
                if found.is_empty() {
                    // Credentials in one piece (token68), which only schemes we do not know have.
                    self.0 = before;
                    self.pass(|b| is_token(b) || matches!(b, b'/' | b'='));
                    return self.end_of_item().map(|()| found);
                }
                // The name of the next scheme.
                self.0 = before;
                return Ok(found);
            }
            self.0 = &self.0[1..];
            if found.is_empty() && matches!(self.0.first(), None | Some(b'=')) {
                self.pass(|b| b == b'=');
                return self.end_of_item().map(|()| found);
            }
            self.pass_blanks();
            let value = if self.0.first() == Some(&b'"') {
                self.quoted()?
            } else {
                self.token()?.to_owned()
            };
            found.push((name, value));
            self.end_of_item()?;
            self.pass_separators();
        }
    }

    /// After an item there is a comma, or nothing.
    fn end_of_item(&mut self) -> Result<(), &'static str> {
        self.pass_blanks();
        match self.0.first() {
            None | Some(b',') => Ok(()),
            Some(_) => Err("a comma is missing"),
        }
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut value = Vec::new();
        let mut bytes = self.0[1..].iter();
        loop {
            match bytes.next() {
                None => return Err("a quote is not closed"),
                Some(b'"') => break,
                Some(b'\\') => value.push(*bytes.next().ok_or("a quote is not closed")?),
                Some(&b) if b < b' ' && b != b'\t' || b == 0x7f => {
                    return Err("it has a control character");
                }
                Some(&b) => value.push(b),
            }
        }
        self.0 = bytes.as_slice();
        String::from_utf8(value).map_err(|_| "a value is not text")
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// RFC 9110, section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            scope: scope.to_owned(),
        }
    }

    #[test]
    fn the_challenges_of_registries_in_use_are_read() {
        assert_eq!(
            Challenge::parse(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            Ok(vec![bearer(
                "https://auth.docker.io/token",
                "registry.docker.io",
                "repository:a/b:pull,push"
            )])
        );
        assert_eq!(
            Challenge::parse(r#"Basic realm="Registry Realm""#),
            Ok(vec![Challenge::Basic])
        );
        assert_eq!(
            Challenge::parse(r#"bearer Realm = "http://x/t" , error="invalid_token""#),
            Ok(vec![bearer("http://x/t", "", "")])
        );
        assert_eq!(
            Challenge::parse(r#"Negotiate, Basic realm="a\"b", Bearer realm="https://x""#),
            Ok(vec![
                Challenge::Other("negotiate".to_owned()),
                Challenge::Basic,
                bearer("https://x", "", "")
            ])
        );
        assert_eq!(
            Challenge::parse("Negotiate YWJj/+==, Basic"),
            Ok(vec![
                Challenge::Other("negotiate".to_owned()),
                Challenge::Basic
            ])
        );
    }

    #[test]
    fn a_malformed_challenge_is_refused_with_a_reason() {
        for bad in [
            "",
            " , ",
            "Bearer",
            "Bearer realm=",
            r#"Bearer realm="https://x"#,
            r#"Bearer realm="ftp://x""#,
            r#"Bearer realm="https://x" service="y""#,
            r#"Bearer realm="https://x",realm="https://y""#,
            r#"Bearer service="y""#,
            "Bearer realm=\"https://x\u{8b}\"",
            "Bearer realm=\"https://x y\"",
            "Bearer realm=\"https://x\n\"",
            "=",
            "Bearer=x",
            &"a, ".repeat(20),
            &"a".repeat(9000),
        ] {
            assert!(Challenge::parse(bad).is_err(), "{bad:?}");
        }
    }
}
