//! Prints a listing for people: an array of objects as an aligned table, an object as lines.

use serde_json::{Map, Value};

/// Fields that come first, in this order; the others follow by name.
const FIRST: &[&str] = &[
    "id",
    "draft",
    "act",
    "sequence",
    "copy",
    "rule",
    "verdict",
    "for",
    "fact",
    "name",
    "node",
    "time",
    "verb",
    "kind",
    "by",
    "state",
    "precedence",
    "label",
    "originator",
    "created",
];

fn ordered(fields: &Map<String, Value>) -> Vec<&String> {
    let rank = |key: &str| FIRST.iter().position(|f| *f == key).unwrap_or(FIRST.len());
    let mut keys: Vec<&String> = fields.keys().collect();
    keys.sort_by_key(|key| (rank(key), key.as_str()));
    keys
}

/// Text of `value`, ending in a newline. Control characters are shown as `?`, so that nothing a
/// sender wrote can move a duty officer's cursor.
#[must_use]
pub(crate) fn render(value: &Value) -> String {
    match value {
        Value::Array(rows) => table(rows),
        Value::Object(fields) => lines(fields),
        other => format!("{}\n", cell(other)),
    }
}

fn lines(fields: &Map<String, Value>) -> String {
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for key in ordered(fields) {
        match &fields[key.as_str()] {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                text.push_str(&format!("{key}:\n{}", table(rows)));
            }
            other => text.push_str(&format!("{key:width$}  {}\n", cell(other))),
        }
    }
    text
}

fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else {
        return rows.iter().map(|r| format!("{}\n", cell(r))).collect();
    };
    let columns = ordered(first);
    let cells: Vec<Vec<String>> = (rows.iter())
        .map(|row| {
            (columns.iter())
                .map(|c| row.get(c.as_str()).map(cell).unwrap_or_default())
                .collect()
        })
        .collect();
    let width = |i: usize| {
        let longest = cells.iter().map(|row| row[i].chars().count()).max();
        longest.unwrap_or(0).max(columns[i].chars().count())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |parts: Vec<String>| {
        let mut text = String::new();
        for (part, width) in parts.iter().zip(&widths) {
            text.push_str(&format!("{part:width$}  "));
        }
        format!("{}\n", text.trim_end())
    };
    let heading = columns
        .iter()
        .map(|c| c.to_uppercase().replace('_', " "))
        .collect();
    let mut text = line(heading);
    text.extend(cells.into_iter().map(line));
    text
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::render;
    use serde_json::json;

    #[test]
    fn rows_are_aligned_under_a_heading() {
        let rows = json!([{"id": "a", "at_ms": 5, "read": true}, {"id": "long", "at_ms": 10, "read": false}]);
        let text = render(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("ID") && lines[0].contains("AT MS"));
        let column = |l: &str, s: &str| l.find(s).expect("good");
        assert_eq!(column(lines[1], "yes"), column(lines[2], "no"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = render(&json!({"subject": "a\u{1b}[2Jb\nc"}));
        assert_eq!(text, "subject  a?[2Jb?c\n");
        assert_eq!(render(&json!([])), "");
    }
}
