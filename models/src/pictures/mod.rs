//! Files of pictures: of any kind that people have, PNG files with their parameters, NumPy archives. The pixels themselves are
//! the runtime's.

mod folder;
mod load;
mod npz;
mod png;

pub use fcdm_runtime::picture::{GAP, Picture, columns_of, grid};
pub use folder::{Pictures, PicturesError, sheet_bytes};
pub use load::{PictureError, centre_square, load, load_exactly, size};
pub use npz::write_npz;
pub use png::{Text, read_png, read_text, write_png};
