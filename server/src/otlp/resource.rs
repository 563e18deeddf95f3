//! Resource and scope become a stream, which is made once and found again by their bytes.

use chronolith_engine::TenantId;
use chronolith_engine::model::{Scope, Stream};

use super::any_value::{ValueError, owned_attributes, text};
use crate::ingest::protobuf::{Reader, WireError};
use crate::rows::labels::resource_labels;
use crate::rows::{Reason, Taken, TooManyStreams};

/// Attributes of a resource or a scope.
const ATTRIBUTES_MAX: usize = 1024;
/// Stands behind the tenant in keys of streams: no other protocol's keys have it there.
const KEY_MARK: u8 = 0;

/// Why a stream cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The tenant has too many.
    #[error(transparent)]
    TooMany(#[from] TooManyStreams),
    /// Resource or scope cannot be.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl StreamError {
    /// Names the rows of a stream that cannot be; malformed bytes refuse the request.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn refuse(self, rows: u64, taken: &mut Taken) -> Result<(), WireError> {
        let reason = match &self {
            Self::Value(ValueError::Wire(error)) => return Err(*error),
            Self::Value(ValueError::Bounds(_)) => Reason::Attributes,
            Self::TooMany(_) => Reason::Streams,
        };
        taken.refuse(rows, reason, self.to_string());
        Ok(())
    }
}

/// Writes the key of a resource and scope into `key`.
pub fn write_key(key: &mut Vec<u8>, tenant: &TenantId, resource: &[u8], scope: &[u8]) {
    key.clear();
    key.extend_from_slice(tenant.as_str().as_bytes());
    key.push(KEY_MARK);
    key.extend_from_slice(&(resource.len() as u64).to_le_bytes());
    key.extend_from_slice(resource);
    key.extend_from_slice(scope);
}

/// Makes the stream of a resource and a scope; attributes of the resource in `labels` become labels.
///
/// # Errors
/// See [`ValueError`].
pub fn stream(resource: &[u8], scope: &[u8], labels: &[String]) -> Result<Stream, ValueError> {
    // Repaired text is counted in rows, not in what stands before them.
    let mut repaired = 0;
    let resource = owned_attributes(resource, 1, ATTRIBUTES_MAX, &mut repaired)?;
    let (mut name, mut version) = (String::new(), String::new());
    let mut reader = Reader::new(scope);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => name = text(field, &mut repaired)?.into_owned(),
            2 => version = text(field, &mut repaired)?.into_owned(),
            _ => {}
        }
    }
    let attributes = owned_attributes(scope, 3, ATTRIBUTES_MAX, &mut repaired)?;
    Ok(Stream {
        labels: resource_labels(&resource, labels),
        resource,
        scope: Scope {
            name,
            version,
            attributes,
        },
    })
}

/// The message in the first field `number`; empty if there is none.
///
/// # Errors
/// Malformed bytes in front of it.
pub fn first_message(message: &[u8], number: u32) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            return field.bytes();
        }
    }
    Ok(&[])
}

/// How many fields `number` a message has.
///
/// # Errors
/// Malformed bytes.
pub fn count_messages(message: &[u8], number: u32) -> Result<u64, WireError> {
    let mut reader = Reader::new(message);
    let mut count = 0;
    while let Some(field) = reader.next_field()? {
        count += u64::from(field.number == number);
    }
    Ok(count)
}
