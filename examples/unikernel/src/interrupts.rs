//! What may be called in an interrupt: each row of the table in docs/porting.md.

pub fn test() {}
