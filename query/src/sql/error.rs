//! What can go wrong with a SQL statement, sorted by whose fault it is.

use chronolith_engine::EngineError;
use datafusion::error::DataFusionError;

/// Where in the text a statement is at fault, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// The error of a SQL statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The text does not parse, or names what is not there, or asks for what is not allowed.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// Where, if known.
        position: Option<Position>,
    },
    /// The statement is fine but could not be carried out (division by zero, overflow, …).
    #[error("{0}")]
    Execution(String),
    /// More memory than a single statement may hold.
    #[error("{0}")]
    TooMuchMemory(String),
    /// The memory that statements share is used up.
    #[error("{0}")]
    Resources(String),
    /// The deadline passed.
    #[error("statement timed out")]
    Timeout,
    /// Someone cancelled the statement.
    #[error("statement cancelled")]
    Cancelled,
    /// The storage engine failed.
    #[error(transparent)]
    Engine(EngineError),
}

impl SqlError {
    /// An error met while planning: mostly the text's fault.
    pub(crate) fn planning(error: DataFusionError) -> Self {
        let position = position(&error);
        match Self::execution(error) {
            Self::Execution(message) => Self::Invalid { message, position },
            other => other,
        }
    }

    /// An error met while running.
    pub(crate) fn execution(error: DataFusionError) -> Self {
        if let DataFusionError::ResourcesExhausted(message) = error.find_root() {
            return Self::Resources(message.clone());
        }
        match root(error) {
            DataFusionError::External(inner) => match inner.downcast::<EngineError>() {
                Ok(engine) => (*engine).into(),
                // Other languages inside a statement say themselves whose fault it was.
                Err(other) => match other.downcast::<Self>() {
                    Ok(own) => *own,
                    Err(other) => Self::Execution(other.to_string()),
                },
            },
            DataFusionError::SQL(error, _) => Self::Execution(error.to_string()),
            DataFusionError::Plan(message) | DataFusionError::Execution(message) => {
                Self::Execution(message)
            }
            other => Self::Execution(other.strip_backtrace()),
        }
    }
}

/// Takes off the wrappers that only add context.
fn root(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(*inner),
        DataFusionError::Collection(mut all) if !all.is_empty() => root(all.swap_remove(0)),
        other => other,
    }
}

fn position(error: &DataFusionError) -> Option<Position> {
    if let Some(span) = error.diagnostic().and_then(|d| d.span) {
        return Some(Position {
            line: span.start.line,
            column: span.start.column,
        });
    }
    // The tokenizer and parser put the place into their text only.
    let text = error.to_string();
    let (_, after) = text.split_once("Line: ")?;
    let (line, after) = after.split_once(", Column: ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Some(Position {
        line: line.trim().parse().ok()?,
        column: digits.parse().ok()?,
    })
}
