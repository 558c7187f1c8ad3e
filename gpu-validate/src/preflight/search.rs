//! Where CUDA's libraries may lie: the loader's own folders, toolkits, driver mounts, Python wheels.
//!
//! Lists folders and reads nothing but their names; opening a library is `device::cuda`'s part.

use std::path::{Path, PathBuf};

/// Where libraries are looked for, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Whether the loader is asked first, by bare name: `LD_LIBRARY_PATH`, then the system's own folders.
    pub loader: bool,
    /// Folders that exist, to be searched by full path after that.
    pub folders: Vec<PathBuf>,
    /// What was looked at, for people: patterns, whether or not anything matched.
    pub described: Vec<String>,
}

/// Folders of toolkits, driver mounts and systems; `*` stands for any run of characters within one name.
const SYSTEM: [&str; 10] = [
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/local/cuda*/lib64",
    "/usr/local/cuda*/targets/x86_64-linux/lib",
    "/usr/local/cuda*/compat",
    "/opt/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
];

/// Where Python keeps packages, below a prefix.
const PACKAGES: [&str; 3] =
    ["lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages"];

/// Where NVIDIA's wheels keep libraries, below a package folder.
const WHEELS: [&str; 2] = ["nvidia/cu13/lib", "nvidia/*/lib"];

impl Search {
    /// This machine, as the environment variables describe it.
    pub fn of_this_machine() -> Self {
        Search::with(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// The same with `variable` in place of the environment.
    pub fn with(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let mut patterns: Vec<String> = Vec::new();
        let listed = variable("LD_LIBRARY_PATH").unwrap_or_default();
        patterns.extend(std::env::split_paths(&listed).filter(|path| path.is_absolute()).map(shown));
        for home in ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(|name| variable(name)) {
            patterns.push(shown(home.join("lib64")));
        }
        patterns.extend(SYSTEM.map(str::to_owned));
        let prefixes = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name));
        let home = variable("HOME").map(|home| home.join(".local"));
        let fixed = ["/usr/local", "/usr", "/opt/conda"].map(PathBuf::from);
        for prefix in prefixes.chain(home).chain(fixed) {
            for package in PACKAGES {
                patterns.extend(WHEELS.map(|wheel| shown(prefix.join(package).join(wheel))));
            }
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in patterns.iter().flat_map(|pattern| matching(Path::new(pattern))) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Search { loader: true, folders, described: described(&listed) }
    }

    /// These folders alone, without the loader: for tests.
    pub fn only(folders: Vec<PathBuf>) -> Self {
        let described = folders.iter().cloned().map(shown).collect();
        Search { loader: false, folders, described }
    }
}

fn described(listed: &Path) -> Vec<String> {
    let listed = if listed.as_os_str().is_empty() { "empty".to_owned() } else { shown(listed.to_owned()) };
    vec![
        format!("LD_LIBRARY_PATH ({listed})"),
        "the loader's folders".to_owned(),
        "/usr/local/nvidia/lib64".to_owned(),
        "/usr/local/cuda*/lib64".to_owned(),
        "/usr/lib/x86_64-linux-gnu, /usr/lib64, /usr/lib/wsl/lib".to_owned(),
        "nvidia/*/lib of Python's package folders".to_owned(),
    ]
}

fn shown(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// Folders that exist and match a pattern, by name, later versions first.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components().skip(1) {
        let part = part.as_os_str().to_string_lossy();
        found = match part.split_once('*') {
            None => found.iter().map(|folder| folder.join(&*part)).filter(|path| path.is_dir()).collect(),
            Some((start, end)) => found.iter().flat_map(|folder| entries(folder, start, end)).collect(),
        };
    }
    found
}

fn entries(folder: &Path, start: &str, end: &str) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let fits =
        |name: &str| name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end);
    let mut found: Vec<PathBuf> = listing
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_in_a_virtual_environment_is_found_and_the_loader_goes_first() {
        let root = tempfile::tempdir().expect("a folder");
        let wheel = root.path().join("lib/python3.12/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&wheel).expect("made");
        let listed = root.path().join("listed");
        std::fs::create_dir_all(&listed).expect("made");
        let search = Search::with(|name| match name {
            "VIRTUAL_ENV" => Some(root.path().to_owned()),
            "LD_LIBRARY_PATH" => Some(listed.clone()),
            _ => None,
        });
        assert!(search.loader);
        assert_eq!(search.folders.first(), Some(&listed));
        assert_eq!(search.folders.iter().filter(|folder| **folder == wheel).count(), 1, "{search:?}");
    }

    #[test]
    fn a_relative_entry_of_the_loaders_path_is_left_to_the_loader() {
        let search =
            Search::with(|name| (name == "LD_LIBRARY_PATH").then(|| PathBuf::from("target:relative/lib")));
        assert!(search.folders.iter().all(|folder| folder.is_absolute()), "{search:?}");
    }
}
