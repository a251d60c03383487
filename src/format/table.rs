//! Columns as docker aligns them (Go's text/tabwriter with least width 10, padding 3).

const LEAST: usize = 10;
const PADDING: usize = 3;

/// Lines whose cells end with a tab, aligned: a column reaches as far as its lines follow each other.
pub fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    // Width of each cell but a line's last, which ends with no tab.
    let mut widths: Vec<Vec<usize>> = lines
        .iter()
        .map(|cells| vec![0; cells.len().saturating_sub(1)])
        .collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut first = 0;
        while first < lines.len() {
            let block = widths[first..]
                .iter()
                .take_while(|cells| cells.len() > column)
                .count();
            let cells = first..first + block;
            let widest = lines[cells.clone()]
                .iter()
                .map(|line| line[column].chars().count() + PADDING)
                .max()
                .unwrap_or(0)
                .max(LEAST);
            for line in cells {
                widths[line][column] = widest;
            }
            first += block.max(1);
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(column) {
                out.extend(std::iter::repeat_n(
                    ' ',
                    width.saturating_sub(cell.chars().count()),
                ));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_ten_wide_at_least_and_three_apart() {
        assert_eq!(
            align("ID\tNAME\na\tlonger than ten\nb\té\n"),
            "ID        NAME\na         longer than ten\nb         é\n"
        );
        assert_eq!(
            align("A\tB\tC\nlonger than ten\tx\ty\n"),
            "A                 B         C\nlonger than ten   x         y\n"
        );
    }

    #[test]
    fn a_line_without_a_cell_ends_its_column() {
        assert_eq!(
            align("a\tb\nplain\nlonger than ten\tb\n"),
            "a         b\nplain\nlonger than ten   b\n"
        );
        assert_eq!(align(""), "");
    }
}
