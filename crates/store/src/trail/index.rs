//! What a record is found by. For each block of records, one row for each thing that occurs in it, with the places in the block: so a message
//! or a person is found without reading the log, and the rows are fewer than the records.

use std::collections::BTreeMap;

use ordonnans_audit::{Detail, Public};
use ordonnans_label::Level;
use ordonnans_message::{AuditQuery, sha256};

use super::TrailError;

/// Records of one block.
pub(crate) const BLOCK: u64 = 4096;
/// From so many places on a row is a bit for each record of the block.
const DENSE: usize = 256;
const BITS: usize = BLOCK as usize / 8;

/// Something that records have in common: its kind, and the beginning of the hash of its value. Two values may share it; whoever searches
/// looks at the record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Facet([u8; 9]);

impl Facet {
    fn new(kind: u8, value: &[u8]) -> Self {
        let mut facet = [kind; 9];
        facet[1..].copy_from_slice(&sha256(&[value]).as_bytes()[..8]);
        Self(facet)
    }

    pub(crate) fn key(self, block: u64) -> [u8; 18] {
        let mut key = [b'i'; 18];
        key[1..10].copy_from_slice(&self.0);
        key[10..].copy_from_slice(&block.to_be_bytes());
        key
    }

    fn of(public: &Public, detail: &Detail) -> Vec<Self> {
        let mut all = vec![
            Self::new(b'v', &[public.verb.code()]),
            Self::new(b'l', &[public.level.code()]),
        ];
        let text = |kind: u8, n: &ordonnans_label::Name| Self::new(kind, n.as_str().as_bytes());
        all.extend(detail.message.map(|id| Self::new(b'm', id.as_bytes())));
        all.extend(detail.rule.map(|n| Self::new(b'r', &n.to_be_bytes())));
        all.extend(detail.who.iter().map(|n| text(b'n', n)));
        let other = detail.to.iter().filter(|n| Some(*n) != detail.who.as_ref());
        all.extend(other.map(|n| text(b'n', n)));
        all.extend(detail.person.iter().map(|n| text(b'p', n)));
        all
    }
}

/// What a question asks for.
pub(crate) struct Asked {
    /// A record has all of these; the rarest first.
    pub(crate) all: Vec<Facet>,
    /// A record has one of these, where the question is about details: the levels that whoever asks may see.
    levels: Option<Vec<Facet>>,
}

impl Asked {
    pub(crate) fn new(query: &AuditQuery, up_to: Level) -> Self {
        let text = |kind: u8, n: &ordonnans_label::Name| Facet::new(kind, n.as_str().as_bytes());
        let of_level = |l: Level| Facet::new(b'l', &[l.code()]);
        let message = query.message.map(|id| Facet::new(b'm', id.as_bytes()));
        let mut all: Vec<Facet> = message.into_iter().collect();
        all.extend(query.person.iter().map(|n| text(b'p', n)));
        all.extend(query.rule.map(|n| Facet::new(b'r', &n.to_be_bytes())));
        all.extend(query.node.iter().map(|n| text(b'n', n)));
        let details = !all.is_empty();
        all.extend(query.verb.map(|v| Facet::new(b'v', &[v])));
        all.extend(query.level.map(of_level));
        let seen = || Level::ALL.into_iter().filter(|l| *l <= up_to);
        Self {
            all,
            levels: details.then(|| seen().map(of_level).collect()),
        }
    }

    /// Of the places in a block of the rarest thing, those that have the others, too.
    pub(crate) fn narrow(
        &self,
        mut places: Places,
        of: impl Fn(Facet) -> Result<Places, TrailError>,
    ) -> Result<Places, TrailError> {
        for other in self.all.iter().skip(1) {
            let kept = of(*other)?;
            places.retain(|p| kept.binary_search(p).is_ok());
        }
        if let Some(levels) = &self.levels {
            let levels = levels.iter().map(|l| of(*l));
            let levels = levels.collect::<Result<Vec<Places>, _>>()?;
            places.retain(|p| levels.iter().any(|l| l.binary_search(p).is_ok()));
        }
        Ok(places)
    }
}

/// Places in a block, ascending.
pub(crate) type Places = Vec<u16>;

fn encode(places: &[u16]) -> Vec<u8> {
    if places.len() < DENSE {
        return places.iter().flat_map(|p| p.to_be_bytes()).collect();
    }
    let mut bits = vec![0; BITS];
    for p in places {
        bits[usize::from(p / 8)] |= 1 << (p % 8);
    }
    bits
}

pub(crate) fn decode(row: &[u8]) -> Places {
    if row.len() != BITS {
        let pairs = row.chunks_exact(2);
        return pairs.map(|p| u16::from_be_bytes([p[0], p[1]])).collect();
    }
    let place = |i: usize| u16::try_from(i).unwrap_or(u16::MAX);
    (0..BITS * 8)
        .filter(|i| row[i / 8] & (1 << (i % 8)) != 0)
        .map(place)
        .collect()
}

/// The block that is being filled. Its rows are written when it is full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    pub(crate) number: u64,
    places: BTreeMap<Facet, Places>,
}

impl Block {
    /// The block that record `n` falls in, empty.
    pub(crate) fn at(n: u64) -> Self {
        Self {
            number: n / BLOCK,
            places: BTreeMap::new(),
        }
    }

    /// Takes a record up. Gives whether the block is full now.
    pub(crate) fn add(&mut self, public: &Public, detail: &Detail) -> bool {
        let place = u16::try_from(public.sequence % BLOCK).unwrap_or(u16::MAX);
        for facet in Facet::of(public, detail) {
            self.places.entry(facet).or_default().push(place);
        }
        u64::from(place) == BLOCK - 1
    }

    pub(crate) fn places(&self, facet: Facet) -> Places {
        self.places.get(&facet).cloned().unwrap_or_default()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = ([u8; 18], Vec<u8>)> {
        let number = self.number;
        self.places
            .iter()
            .map(move |(facet, places)| (facet.key(number), encode(places)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_there_and_back() {
        for n in [1, DENSE - 1, DENSE, DENSE + 1, BLOCK as usize] {
            let places: Places = (0..n).map(|i| (i * BLOCK as usize / n) as u16).collect();
            let row = encode(&places);
            assert_eq!(decode(&row), places, "{n} places");
            assert!(row.len() <= BITS);
        }
    }
}
