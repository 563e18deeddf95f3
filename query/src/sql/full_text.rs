//! `match(text, words)`: whether a text has all of some words, whatever their case.
//!
//! A word is a run of letters, digits and underscores; it must stand between other characters. The table
//! scan pushes the very same patterns into the engine, which passes over blocks by their token filters.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use regex::Regex;

/// Words of one call.
const WORDS_MAX: usize = 64;

/// A pattern for each word, to be found anywhere in a text that has it.
pub(crate) fn word_patterns(words: &str) -> Vec<String> {
    words
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .take(WORDS_MAX)
        .map(|word| format!(r"(?i)\b{}\b", regex::escape(word)))
        .collect()
}

/// The function, to be registered in a session.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(Match {
        signature: Signature::one_of(vec![TypeSignature::String(2)], Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Match {
    signature: Signature,
}

impl ScalarUDFImpl for Match {
    fn name(&self) -> &str {
        "match"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [texts, words] = args.args.as_slice() else {
            return plan_err!("match takes a text and words");
        };
        let ColumnarValue::Scalar(words) = words else {
            return exec_err!("the words of match must be the same for all rows");
        };
        let words = match words {
            ScalarValue::Utf8(words)
            | ScalarValue::LargeUtf8(words)
            | ScalarValue::Utf8View(words) => words,
            other => return exec_err!("the words of match are text, not {other}"),
        };
        let texts = texts.to_array(args.number_rows)?;
        let Some(words) = words else {
            return Ok(ColumnarValue::Array(Arc::new(BooleanArray::new_null(
                texts.len(),
            ))));
        };
        Ok(ColumnarValue::Array(matches(&texts, words)?))
    }
}

fn matches(texts: &ArrayRef, words: &str) -> Result<ArrayRef> {
    let patterns = word_patterns(words)
        .iter()
        .map(|pattern| Regex::new(pattern))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| datafusion::error::DataFusionError::Execution(error.to_string()))?;
    let texts = cast(texts, &DataType::Utf8)?;
    let Some(texts) = texts.as_any().downcast_ref::<StringArray>() else {
        return exec_err!("match looks at text");
    };
    let has_all = |text: &str| patterns.iter().all(|pattern| pattern.is_match(text));
    let found: BooleanArray = texts.iter().map(|text| text.map(has_all)).collect();
    Ok(Arc::new(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_alone_and_in_any_order() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("Connection to db-1 refused"),
            Some("connections refused"),
            Some("refused: connection"),
            None,
        ]));
        let found = matches(&texts, "connection, REFUSED").unwrap();
        let expected = BooleanArray::from(vec![Some(true), Some(false), Some(true), None]);
        assert_eq!(found.as_ref(), &expected as &dyn Array);
    }

    #[test]
    fn words_are_cut_and_escaped() {
        assert_eq!(
            word_patterns(" a.b  c_1 "),
            [r"(?i)\ba\b", r"(?i)\bb\b", r"(?i)\bc_1\b"]
        );
        assert!(word_patterns("...").is_empty());
    }
}
