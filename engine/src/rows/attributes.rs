//! Attribute sets of rows in a batch: keys by number, values in place, one run of bytes per row.

use hashbrown::HashMap;

use super::value::ValueRef;
use crate::codec::varint;
use crate::model::{AttributeValue, Attributes};
use crate::segment::wire::put_attribute;

/// The attribute keys of a batch, numbered in order of first use.
#[derive(Clone, Debug, Default)]
pub struct KeyTable {
    keys: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
    /// Of each key, the one that came after it last time: senders keep to an order.
    followers: Vec<u32>,
    /// The key that came last.
    last: u32,
    /// Whether a set has arrays or maps: only then their depth is looked at.
    has_nested: bool,
}

impl PartialEq for KeyTable {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl KeyTable {
    /// The number of a key, a new one if it was not there.
    pub fn number(&mut self, key: &str) -> u32 {
        let last = self.last as usize;
        let expected = self.followers.get(last).copied().unwrap_or(0);
        if self
            .keys
            .get(expected as usize)
            .is_some_and(|k| **k == *key)
        {
            self.last = expected;
            return expected;
        }
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None => {
                let number = self.keys.len() as u32;
                self.keys.push(key.into());
                self.numbers.insert(key.into(), number);
                self.followers.push(0);
                number
            }
        };
        if let Some(follower) = self.followers.get_mut(last) {
            *follower = number;
        }
        self.last = number;
        number
    }

    /// The number of a key that is there.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The key of a number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&str> {
        self.keys.get(number as usize).map(AsRef::as_ref)
    }

    /// Notes that sets are added which may have arrays or maps.
    pub(crate) fn note_nested(&mut self, has_nested: bool) {
        self.has_nested |= has_nested;
    }

    /// Whether some set may have arrays or maps.
    pub(crate) fn has_nested(&self) -> bool {
        self.has_nested
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All keys in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(AsRef::as_ref)
    }
}

/// Appends the pairs of one attribute set: a key number as varint, then the value.
pub struct AttributeWriter<'a> {
    pub(super) keys: &'a mut KeyTable,
    pub(super) out: &'a mut Vec<u8>,
}

impl<'a> AttributeWriter<'a> {
    /// Writes to `out`, numbering keys in `keys`.
    pub fn new(keys: &'a mut KeyTable, out: &'a mut Vec<u8>) -> Self {
        Self { keys, out }
    }

    fn key(&mut self, key: &str) {
        let number = self.keys.number(key);
        varint::write_u64(self.out, u64::from(number));
    }

    /// Adds text.
    pub fn str(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(1);
        varint::write_u64(self.out, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// Adds an integer.
    pub fn int(&mut self, key: &str, value: i64) {
        self.key(key);
        self.out.push(2);
        varint::write_i64(self.out, value);
    }

    /// Adds a double.
    pub fn float(&mut self, key: &str, value: f64) {
        self.key(key);
        self.out.push(3);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// Adds a truth value.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.push(4);
        self.out.push(u8::from(value));
    }

    /// Adds raw bytes.
    pub fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(5);
        varint::write_u64(self.out, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// Adds all pairs, in their order.
    pub fn pairs(&mut self, pairs: &Attributes) {
        for (key, value) in pairs {
            self.value(key, value);
        }
    }

    /// Adds a value as it lies in another batch or in a block.
    pub fn value_ref(&mut self, key: &str, value: ValueRef<'_>) {
        self.key(key);
        self.keys.has_nested |= matches!(value, ValueRef::Nested(_));
        value.write(self.out);
    }

    /// Adds a value of any type. Nesting beyond 64 levels must have been refused before.
    pub fn value(&mut self, key: &str, value: &AttributeValue) {
        self.key(key);
        self.keys.has_nested |= matches!(value, AttributeValue::Array(_) | AttributeValue::Map(_));
        put_attribute(self.out, value);
    }
}

/// The pairs of one attribute set, in the order sent.
#[derive(Clone, Debug)]
pub struct RawAttributes<'a> {
    keys: &'a KeyTable,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> RawAttributes<'a> {
    /// Over what [`AttributeWriter`] wrote with the same keys.
    #[must_use]
    pub fn new(keys: &'a KeyTable, bytes: &'a [u8]) -> Self {
        Self { keys, bytes, at: 0 }
    }

    /// The bytes of the set.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The value of a key; of repeated keys the last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<ValueRef<'a>> {
        let wanted = self.keys.find(key)?;
        let mut pairs = self.clone();
        let mut found = None;
        while let Some((number, value)) = pairs.next_numbered() {
            if number == wanted {
                found = Some(value);
            }
        }
        found
    }

    /// The next pair with the key's number.
    pub fn next_numbered(&mut self) -> Option<(u32, ValueRef<'a>)> {
        let number = u32::try_from(varint::read_u64(self.bytes, &mut self.at)?).ok()?;
        Some((number, ValueRef::read(self.bytes, &mut self.at)?))
    }

    /// All pairs as owned attributes.
    #[must_use]
    pub fn to_attributes(self) -> Attributes {
        self.map(|(key, value)| (key.to_owned(), value.to_value()))
            .collect()
    }
}

impl<'a> Iterator for RawAttributes<'a> {
    type Item = (&'a str, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (number, value) = self.next_numbered()?;
        Some((self.keys.get(number)?, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_number_whatever_comes_before_them() {
        let mut table = KeyTable::default();
        let sets = ["a b c", "a b c", "c a", "b", "b b a", "", "d c b a", "a d"];
        for key in sets.iter().flat_map(|set| set.split(' ')) {
            let number = table.number(key);
            assert_eq!(table.get(number), Some(key));
            assert_eq!(table.find(key), Some(number));
        }
        assert_eq!(table.iter().collect::<Vec<_>>(), ["a", "b", "c", "", "d"]);
    }
}
