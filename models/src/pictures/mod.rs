//! Files of pictures, of any kind that people have, and NumPy archives. The pixels themselves and PNG files are the runtime's.

mod crop;
mod jpeg;
mod load;
mod npz;

pub use crop::Region;
pub use fcdm_runtime::picture::png::{Text, read_png, read_text, write_png};
pub use fcdm_runtime::picture::{GAP, Picture, columns_of, grid};
pub use load::{FORMATS, PictureError, Prepared, load, load_brightness, load_middle, picture_size, unread};
pub use npz::write_npz;
