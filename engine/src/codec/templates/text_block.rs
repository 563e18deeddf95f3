//! Any block of strings, for those who read and search text: templates, dictionary, constant or plain.

use std::cell::OnceCell;

use super::super::CodecError;
use super::super::block::Tag;
use super::super::strings::{self, Dictionary, Strings};
use super::CODEC;
use super::reader::{TemplateBlock, get_or_try};
use super::search::{RowSet, TextSearch};

/// An open block of strings, whatever its encoding. Nothing is decoded before it is needed.
#[derive(Debug)]
pub struct TextBlock<'a> {
    count: usize,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    Templates(Box<TemplateBlock<'a>>),
    /// Constants and dictionaries: each distinct value is looked at once.
    Distinct(Encoded<'a, Dictionary>),
    Plain(Encoded<'a, Strings>),
}

/// A block, and what it decodes to once that is known.
#[derive(Debug)]
struct Encoded<'a, T> {
    block: &'a [u8],
    bytes_max: usize,
    decoded: OnceCell<T>,
}

impl<'a> TextBlock<'a> {
    /// Opens a block of `count` strings of at most `bytes_max` bytes together.
    ///
    /// # Errors
    /// [`CodecError`] if it is no block of strings, or damaged where this looks.
    pub fn open(block: &'a [u8], count: usize, bytes_max: usize) -> Result<Self, CodecError> {
        let kind = match Tag::of(block, CODEC)? {
            Tag::StringTemplates => {
                Kind::Templates(Box::new(TemplateBlock::open(block, count, bytes_max)?))
            }
            Tag::StringConstant | Tag::StringDictionary => Kind::Distinct(Encoded {
                block,
                bytes_max,
                decoded: OnceCell::new(),
            }),
            Tag::StringPlain | Tag::StringZstd => Kind::Plain(Encoded {
                block,
                bytes_max,
                decoded: OnceCell::new(),
            }),
            tag => return Err(tag.unexpected(CODEC)),
        };
        Ok(TextBlock { count, kind })
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The templates, if it is made of them.
    pub fn templates(&self) -> Option<&TemplateBlock<'a>> {
        match &self.kind {
            Kind::Templates(block) => Some(block),
            _ => None,
        }
    }

    fn dictionary<'b>(
        &self,
        encoded: &'b Encoded<'a, Dictionary>,
    ) -> Result<&'b Dictionary, CodecError> {
        get_or_try(&encoded.decoded, || {
            strings::decode_dictionary(encoded.block, self.count, encoded.bytes_max)
        })
    }

    fn plain<'b>(&self, encoded: &'b Encoded<'a, Strings>) -> Result<&'b Strings, CodecError> {
        get_or_try(&encoded.decoded, || {
            strings::decode(encoded.block, self.count, encoded.bytes_max)
        })
    }

    /// All strings.
    ///
    /// # Errors
    /// Damage.
    pub fn decode_all(&self) -> Result<Strings, CodecError> {
        match &self.kind {
            Kind::Templates(block) => block.decode_all(),
            Kind::Distinct(encoded) => {
                strings::decode(encoded.block, self.count, encoded.bytes_max)
            }
            Kind::Plain(encoded) => Ok(self.plain(encoded)?.clone()),
        }
    }

    /// The strings of `rows`, which ascend.
    ///
    /// # Errors
    /// Damage, or rows that do not ascend or are not there.
    pub fn decode_rows(&self, rows: &[u32]) -> Result<Strings, CodecError> {
        let mut strings = Strings::default();
        let mut push = |text: Option<&[u8]>| match text {
            Some(text) if strings.byte_len() + text.len() <= i32::MAX as usize => {
                strings.push(text);
                Ok(())
            }
            Some(_) => Err(super::reader::corrupt("more bytes than declared")),
            None => Err(super::reader::corrupt("no such row")),
        };
        match &self.kind {
            Kind::Templates(block) => return block.decode_rows(rows),
            Kind::Distinct(encoded) => {
                let dictionary = self.dictionary(encoded)?;
                for &row in rows {
                    let key = dictionary.keys.get(row as usize);
                    push(key.and_then(|&key| dictionary.values.get(key as usize)))?;
                }
            }
            Kind::Plain(encoded) => {
                let all = self.plain(encoded)?;
                for &row in rows {
                    push(all.get(row as usize))?;
                }
            }
        }
        Ok(strings)
    }

    /// The rows among `within` that are asked for.
    ///
    /// # Errors
    /// Damage in what had to be looked at.
    pub fn search(&self, search: &TextSearch, within: &RowSet) -> Result<RowSet, CodecError> {
        let mut found = RowSet::none(self.count);
        match &self.kind {
            Kind::Templates(block) => return block.search(search, within),
            Kind::Distinct(encoded) => {
                let dictionary = self.dictionary(encoded)?;
                let mut is_hit = vec![false; dictionary.values.len()];
                search.for_each_match(&dictionary.values, |key| is_hit[key] = true);
                if is_hit.contains(&true) {
                    for row in within.iter() {
                        let key = dictionary.keys.get(row as usize).copied();
                        if key.is_some_and(|key| is_hit[key as usize]) {
                            found.insert(row);
                        }
                    }
                }
            }
            Kind::Plain(encoded) => {
                search.for_each_match(self.plain(encoded)?, |row| found.insert(row as u32));
                found.intersect(within);
            }
        }
        Ok(found)
    }

    /// How many rows are asked for.
    ///
    /// # Errors
    /// Damage in what had to be looked at.
    pub fn count_matches(&self, search: &TextSearch) -> Result<usize, CodecError> {
        match &self.kind {
            Kind::Templates(block) => block.count_matches(search),
            Kind::Distinct(_) | Kind::Plain(_) => {
                Ok(self.search(search, &RowSet::all(self.count))?.len())
            }
        }
    }
}
