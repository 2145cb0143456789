#![doc = include_str!("../docs/pictures.md")]
#![doc = include_str!("../docs/guide.md")]

#[doc = include_str!("../docs/guide/kernel.md")]
pub mod kernel {}

#[doc = include_str!("../docs/guide/full_kernel.md")]
pub mod full_kernel {}

#[doc = include_str!("../docs/guide/vmm.md")]
pub mod vmm {}

#[doc = include_str!("../docs/guide/pager.md")]
pub mod pager {}

#[doc = include_str!("../docs/pictures.md")]
#[doc = include_str!("../docs/guide/processes.md")]
pub mod processes {}

#[doc = include_str!("../docs/guide/c.md")]
pub mod c {}
