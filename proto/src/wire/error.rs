//! Why bytes are not a message. Must never echo the bytes: some of them are shares of secrets.

/// Bytes that are not a message of this protocol. A field is named by its message and its name there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf of this message.
    #[error("the bytes are not a {message}: {reason}")]
    Malformed {
        /// The message expected.
        message: &'static str,
        /// What the protobuf decoder said.
        reason: String,
    },
    /// More bytes than any such message has.
    #[error("{length} bytes are too long for a {message}, which has at most {limit}")]
    TooLong {
        /// The message expected.
        message: &'static str,
        /// Bytes given.
        length: usize,
        /// Most that are decoded.
        limit: usize,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field of bytes has the wrong length.
    #[error("{field} has {length} bytes; it must have {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes due.
        expected: usize,
    },
    /// A list is longer than any cohort makes it.
    #[error("{field} has {count} entries; at most {limit} are accepted")]
    TooMany {
        /// The field.
        field: &'static str,
        /// Entries given.
        count: usize,
        /// Most that are accepted.
        limit: usize,
    },
    /// A list whose ids do not strictly increase.
    #[error("{field} is not in order: client {client} does not come after the one before it")]
    Order {
        /// The field.
        field: &'static str,
        /// The client out of order.
        client: u64,
    },
    /// A field holds a value that it cannot have.
    #[error("{field} is refused: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Why.
        reason: String,
    },
}
