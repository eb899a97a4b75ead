//! Portion marks: the level of a part stands in parentheses where its line begins. The whole is at least as high as its highest part
//! (Vir-bi 2004 article 5, note; ADatP-4774.1 section 4.4).

use crate::{Confidentiality, Policies};

/// A mark and the line, from 1, that begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The line.
    pub line: usize,
    /// What the mark says.
    pub confidentiality: Confidentiality,
}

impl Policies {
    /// The portion marks of a text, in order. A line begins with a mark where, after spaces and bullets, it has a level of a known policy,
    /// with or without values of tag sets, in parentheses. Anything else in parentheses is text.
    pub fn portions<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Portion> + 'a {
        text.lines().enumerate().filter_map(|(at, line)| {
            let bullet = |c: char| c.is_whitespace() || matches!(c, '-' | '*' | '•' | '#');
            let (mark, _) = line
                .trim_start_matches(bullet)
                .strip_prefix('(')?
                .split_once(')')?;
            // A mark is a label without its legal act.
            let label = self.read(mark.trim()).ok()?;
            Some(Portion {
                line: at + 1,
                confidentiality: label.confidentiality,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn marks_and_nothing_else() {
        let text = "Sitrep 3\n(Dep.V) Een alinea.\n  - (Stg. GEHEIM) Een tweede (Stg.ZG) met een verwijzing.\n\
                    (zie bijlage) Niets.\n(NATO SECRET // ONLY NLD) Derde.\n(Stg.C zonder einde\n";
        let found: Vec<(usize, String)> = Policies::built_in()
            .portions(text)
            .map(|p| (p.line, p.confidentiality.to_string()))
            .collect();
        assert_eq!(
            found,
            [
                (2, "Dep.V".to_owned()),
                (3, "Stg.G".to_owned()),
                (5, "NATO SECRET // ONLY NLD".to_owned())
            ]
        );
        let highest = Policies::built_in()
            .portions(text)
            .map(|p| p.confidentiality.level())
            .max();
        assert_eq!(highest, Some(Level::StgG));
    }
}
