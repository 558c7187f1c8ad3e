//! PNG copies of the figures, by resvg. The letters come from a font that is built in (`fonts/`), never from the
//! machine, so that a copy needs no fonts and looks the same everywhere.

/// Twice the pixels, for screens and print.
#[cfg(feature = "png")]
const ZOOM: f32 = 2.0;
#[cfg(feature = "png")]
const FONT: &[u8] = include_bytes!("fonts/DejaVuSans-subset.ttf");
#[cfg(feature = "png")]
const FONT_FAMILY: &str = "DejaVu Sans";

/// Whether this build can make PNG copies.
pub const AVAILABLE: bool = cfg!(feature = "png");

/// The figure as a PNG file.
///
/// # Errors
/// What the rasteriser said.
#[cfg(feature = "png")]
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    use resvg::{tiny_skia, usvg};

    let mut options = usvg::Options { font_family: FONT_FAMILY.to_owned(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family(FONT_FAMILY);
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size();
    let (width, height) = (size.width() * ZOOM as u32, size.height() * ZOOM as u32);
    let mut pixels = tiny_skia::Pixmap::new(width, height)
        .ok_or_else(|| format!("{width} × {height} pixels are more than the rasteriser can hold"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}

/// Never called: [`AVAILABLE`] is asked first.
///
/// # Errors
/// Always.
#[cfg(not(feature = "png"))]
pub fn png(_svg: &str) -> Result<Vec<u8>, String> {
    Err("this build has no PNG support".to_owned())
}
