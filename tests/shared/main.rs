//! Pages in memory that processes share. Any of them may die or lie.

#![cfg(not(pagelock_loom))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod hostile;
mod processes;
mod seats;
mod seats_model;
mod survivors;
