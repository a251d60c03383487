//! A list of things, one row each: as a table, by a template, or as JSON.

use serde_json::{Map, Value};

use super::evaluate::Labels;
use super::{Error, Template, table};

/// One thing of a list.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The fields that templates may name.
    pub fields: Map<String, Value>,
    /// What `.Label "name"` looks at.
    pub labels: Map<String, Value>,
}

impl Row {
    /// A row of fields, in the order of a [`Listing`]'s headings.
    pub fn new(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            labels: Map::new(),
        }
    }

    /// With labels, which also are the field `Labels`, as `a=b,c=d`.
    #[must_use]
    pub fn with_labels<'a>(mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut all = Vec::new();
        for (name, value) in labels {
            all.push(format!("{name}={value}"));
            self.labels.insert(name.to_owned(), value.into());
        }
        self.fields
            .insert("Labels".to_owned(), all.join(",").into());
        self
    }
}

/// How a verb's list is printed.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// Every field of its rows and what stands above it in a table.
    pub headings: &'static [(&'static str, &'static str)],
    /// The template of its table, without the word `table`.
    pub table: &'static str,
    /// The template of `--quiet`.
    pub quiet: &'static str,
}

impl Listing {
    /// The text of a list, each row with a line's end. `format` is what `--format` says, `quiet` is `--quiet`.
    ///
    /// # Errors
    /// What is wrong with the template, even where there is no row.
    pub fn print(&self, format: Option<&str>, quiet: bool, rows: &[Row]) -> Result<String, Error> {
        let format = format.unwrap_or("table");
        let (format, is_table) = match format.strip_prefix("table") {
            Some("") if quiet => (self.quiet, false),
            Some("") => (self.table, true),
            Some(columns) => (columns, true),
            None => (format, false),
        };
        // As docker: `\t` and `\n` as typed between a shell's quotes.
        let format = format
            .trim_matches(' ')
            .replace("\\t", "\t")
            .replace("\\n", "\n");
        let template = Template::parse(&format)?;
        let heading = self.headings.iter().map(|(field, heading)| {
            let field = (*field).to_owned();
            (field, Value::from(*heading))
        });
        // The heading has every field: what it does not have is an error also for an empty list.
        let heading = template.render_with(&Value::Object(heading.collect()), Labels::Heading);
        let mut text = String::new();
        if is_table {
            text = heading?;
            text.push('\n');
        } else if rows.is_empty() {
            self.check(&template)?;
        }
        for row in rows {
            let value = Value::Object(row.fields.clone());
            text.push_str(&template.render_with(&value, Labels::Of(&row.labels))?);
            text.push('\n');
        }
        Ok(if is_table { table::align(&text) } else { text })
    }

    /// Whether a template names fields that no row has.
    fn check(&self, template: &Template) -> Result<(), Error> {
        for name in template.fields() {
            let known = self
                .headings
                .iter()
                .any(|(field, _)| field.eq_ignore_ascii_case(name))
                || name == "Label";
            if !known {
                let all: Vec<&str> = self.headings.iter().map(|(field, _)| *field).collect();
                return Err(Error::new(
                    format!("--format: there is no field .{name}"),
                    format!("one of {}", all.join(", ")),
                ));
            }
        }
        Ok(())
    }
}

/// At most so many characters; where there are more, the last one stands for the rest.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

/// The answer of `inspect`: the values as one JSON array, or by a template one line each.
///
/// # Errors
/// What is wrong with the template.
pub fn inspected(format: Option<&str>, values: &[Value]) -> Result<String, Error> {
    let Some(format) = format else {
        let mut text = format!("{:#}", Value::from(values));
        text.push('\n');
        return Ok(text);
    };
    let template = Template::parse(format)?;
    let mut text = String::new();
    for value in values {
        text.push_str(&template.render(value)?);
        text.push('\n');
    }
    Ok(text)
}
