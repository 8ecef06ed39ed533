//! The target: bytes become a machine.

mod bytes;
pub mod context;
pub mod float;
pub mod kd_data;
pub mod kd_encoding;
pub mod kd_fields;
pub mod registers;
pub mod rows;
pub mod time;

pub use kd_data::{KdData, KdDataError, KdDataSource};
pub use registers::Registers;
