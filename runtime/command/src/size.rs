//! How sizes are said: what the network works on, and what becomes of it.

/// `16x16 latents -> 128x128 pictures`; height and width.
pub fn line(state: [usize; 2], pictures: Option<[usize; 2]>) -> String {
    let shown = |[h, w]: [usize; 2]| format!("{h}x{w}");
    match pictures {
        Some(pictures) if pictures == state => format!("{} pictures", shown(state)),
        Some(pictures) => format!("{} latents -> {} pictures", shown(state), shown(pictures)),
        None => format!("{} latents, no decoder", shown(state)),
    }
}
