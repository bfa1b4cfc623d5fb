//! Files of pictures: of any kind that people have, PNG files with their parameters, NumPy archives. The pixels themselves are
//! the runtime's.

mod crop;
mod folder;
mod jpeg;
mod load;
mod npz;
mod png;

pub use crop::Region;
pub use fcdm_runtime::picture::{GAP, Picture, columns_of, grid};
pub use folder::{Pictures, PicturesError, sheet_bytes};
pub use load::{FORMATS, PictureError, Prepared, load, load_brightness, load_middle, picture_size, unread};
pub use npz::write_npz;
pub use png::{Text, read_png, read_text, write_png};
