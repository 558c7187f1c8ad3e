//! Text and data as HTML takes them, and tables. Everything that comes from a file goes through [`text`] or
//! [`data`]: a policy may be called `</script>`.

use std::fmt::Write as _;

use serde_json::Value;

/// `raw` as text of an element or value of a quoted attribute. Control characters, which HTML does not allow, become
/// U+FFFD.
pub fn text(raw: &str) -> String {
    let mut escaped = String::with_capacity(raw.len());
    for character in raw.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

/// `value` as the contents of a `<script type="application/json">`: no character that could end or open an element.
pub fn data(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A place on a drawing, in its units, to a tenth.
pub fn px(value: f64) -> String {
    // Adding 0 turns −0 into 0.
    (tenth(value) + 0.0).to_string()
}

/// To a tenth; what is not finite is 0.
pub fn tenth(value: f64) -> f64 {
    if value.is_finite() { (value * 10.0).round() / 10.0 } else { 0.0 }
}

/// The heading of a column.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// What it is.
    pub name: &'static str,
    /// Its unit, or which way is better; empty for none.
    pub hint: &'static str,
}

/// A heading with a hint.
pub const fn head(name: &'static str, hint: &'static str) -> Head {
    Head { name, hint }
}

/// A table with a caption for those who do not see the page; the first cell of each row is its heading.
pub struct Table {
    caption: String,
    attributes: &'static str,
    heads: Vec<Head>,
    /// Columns with numbers, which stand to the right.
    numbers: Vec<bool>,
    rows: String,
    /// The next cell's column in a row that is open.
    column: Option<usize>,
}

impl Table {
    /// An empty table. `attributes` go into the tag as they are.
    pub fn new(caption: &str, attributes: &'static str, heads: &[Head]) -> Self {
        Table {
            caption: text(caption),
            attributes,
            heads: heads.to_vec(),
            numbers: vec![false; heads.len()],
            rows: String::new(),
            column: None,
        }
    }

    /// Starts a row with its heading in HTML. `attributes` go into the tag as they are.
    pub fn row(&mut self, attributes: &str, heading: &str) -> &mut Self {
        self.end_row();
        let _ = write!(self.rows, "<tr {attributes}><th scope=\"row\">{heading}</th>");
        self.column = Some(1);
        self
    }

    /// A number, as people read it and exact for sorting; a dash if there is none.
    pub fn number(&mut self, value: Option<f64>, write: impl Fn(f64) -> String) -> &mut Self {
        self.cell(
            true,
            &value.filter(|value| value.is_finite()).map(|value| (value.to_string(), text(&write(value)))),
        )
    }

    /// A number with a remark in small letters below it.
    pub fn number_with(&mut self, value: f64, write: impl Fn(f64) -> String, remark: &str) -> &mut Self {
        let shown = format!("{}<small>{}</small>", text(&write(value)), text(remark));
        self.cell(true, &Some((value.to_string(), shown)))
    }

    /// A whole number, in full.
    pub fn count(&mut self, value: Option<u64>) -> &mut Self {
        self.cell(true, &value.map(|value| (value.to_string(), grouped(value))))
    }

    /// Words.
    pub fn words(&mut self, words: &str) -> &mut Self {
        self.html(&text(words))
    }

    /// HTML.
    pub fn html(&mut self, html: &str) -> &mut Self {
        self.cell(false, &Some((String::new(), html.to_owned())))
    }

    /// The exact value of a number and what is shown.
    fn cell(&mut self, is_number: bool, cell: &Option<(String, String)>) -> &mut Self {
        let column = self.column.expect("Invariant: a cell stands in a row");
        self.numbers[column] |= is_number;
        self.column = Some(column + 1);
        let _ = match cell {
            Some((exact, shown)) if is_number => {
                write!(self.rows, "<td class=\"n\" data-v=\"{exact}\">{shown}</td>")
            }
            Some((_, shown)) => write!(self.rows, "<td>{shown}</td>"),
            None => write!(self.rows, "<td class=\"n\">–</td>"),
        };
        self
    }

    fn end_row(&mut self) {
        if let Some(cells) = self.column.take() {
            assert_eq!(cells, self.heads.len(), "Invariant: a row has one cell per column");
            self.rows.push_str("</tr>\n");
        }
    }

    /// The table in a box that can be moved sideways, also with the keyboard.
    pub fn finish(mut self) -> String {
        self.end_row();
        let mut heads = String::new();
        for (head, is_number) in self.heads.iter().zip(&self.numbers) {
            let class = if *is_number { " class=\"n\"" } else { "" };
            let hint =
                if head.hint.is_empty() { String::new() } else { format!("<small>{}</small>", head.hint) };
            let _ = write!(heads, "<th scope=\"col\"{class}>{}{hint}</th>", head.name);
        }
        let Table { caption, attributes, rows, .. } = self;
        format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table {attributes}>\
             <caption class=\"unseen\">{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\
             </table></div>\n"
        )
    }
}

/// A whole number with commas between thousands.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in powers of ten, as link rates are given: `26.7 TB`.
pub fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 5] = [(1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| value >= *size).unwrap_or((1.0, "bytes"));
    format!("{} {unit}", crate::plot::words::number(value / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_open_an_element_or_end_an_attribute_is_escaped() {
        let hostile = "<script>alert('1')</script> \" & \u{0}\u{1b}";
        let escaped = text(hostile);
        assert_eq!(escaped, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &quot; &amp; \u{fffd}\u{fffd}");
        let json = data(&serde_json::json!([hostile, "<!--"]));
        assert!(!json.contains(['<', '>', '&']), "{json}");
        let read: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(read, [hostile, "<!--"]);
    }

    #[test]
    fn numbers_are_short_for_people_and_exact_for_programs() {
        let mut table = Table::new("c", "", &[head("policy", ""), head("share", "%"), head("n", "")]);
        table
            .row("", "a")
            .number(Some(61.568_119_521_672_34), crate::plot::words::percent)
            .count(Some(1_234_567));
        table
            .row("", "b")
            .number(None, crate::plot::words::percent)
            .number(Some(f64::NAN), |_| String::new());
        let html = table.finish();
        assert!(html.contains("<th scope=\"col\" class=\"n\">share<small>%</small></th>"), "{html}");
        assert!(html.contains("<td class=\"n\" data-v=\"61.56811952167234\">61.6 %</td>"), "{html}");
        assert!(html.contains("data-v=\"1234567\">1,234,567</td></tr>"), "{html}");
        assert!(
            html.contains("<th scope=\"row\">b</th><td class=\"n\">–</td><td class=\"n\">–</td>"),
            "{html}"
        );
        assert_eq!([999, 1000, 26_675_162_316_800].map(grouped), ["999", "1,000", "26,675,162,316,800"]);
        assert_eq!([0.0, 999.0, 26_675_162_316_800.0].map(bytes), ["0 bytes", "999 bytes", "26.7 TB"]);
    }

    #[test]
    fn places_are_short_and_never_minus_nothing() {
        assert_eq!([1.0, 1.26, -0.01, f64::NAN].map(px), ["1", "1.3", "0", "0"]);
    }
}
