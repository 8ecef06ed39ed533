//! Everything the author of a kd extension sees.
pub mod address;
