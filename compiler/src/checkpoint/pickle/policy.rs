//! Which names act when they are called, as other readers of pickles would do. Nothing is called here: the answer is for a note.

/// Modules that act on the world, run code, or give access to what does; with everything below them.
/// Sorted, for the search. Python 2's names for them included.
const ACTING: &[&str] = &[
    "__builtin__",
    "__builtins__",
    "_codecs",
    "_ctypes",
    "_io",
    "_operator",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "_thread",
    "_winapi",
    "aiohttp",
    "ast",
    "asyncio",
    "atexit",
    "bdb",
    "builtins",
    "cProfile",
    "cffi",
    "cloudpickle",
    "code",
    "codecs",
    "codeop",
    "commands",
    "concurrent",
    "ctypes",
    "dill",
    "distutils",
    "doctest",
    "ensurepip",
    "fileinput",
    "ftplib",
    "functools",
    "gc",
    "glob",
    "http",
    "httplib",
    "idlelib",
    "imp",
    "importlib",
    "inspect",
    "io",
    "ipdb",
    "itertools",
    "joblib",
    "linecache",
    "marshal",
    "mmap",
    "multiprocessing",
    "nt",
    "numexpr",
    "operator",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkg_resources",
    "pkgutil",
    "platform",
    "popen2",
    "posix",
    "posixpath",
    "profile",
    "pty",
    "py_compile",
    "pydoc",
    "requests",
    "rlcompleter",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "sysconfig",
    "telnetlib",
    "tempfile",
    "threading",
    "timeit",
    "trace",
    "unittest",
    "urllib",
    "urllib2",
    "venv",
    "webbrowser",
    "winreg",
    "xmlrpc",
    "zipimport",
];

/// Parts of packages that checkpoints do use: these parts load or run code.
const ACTING_BELOW: &[&str] = &[
    "numpy.distutils",
    "numpy.f2py",
    "numpy.lib.npyio",
    "numpy.testing",
    "torch._dynamo",
    "torch._inductor",
    "torch.compile",
    "torch.distributed",
    "torch.fx",
    "torch.hub",
    "torch.jit",
    "torch.load",
    "torch.multiprocessing",
    "torch.ops",
    "torch.package",
    "torch.serialization.load",
    "torch.storage._load_from_bytes",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
];

/// Plain data types of the `builtins`, which pickles of protocol 2 mention by name, and `bytes` as protocol 2 writes them.
const PLAIN: &[(&str, &[&str])] =
    &[("__builtin__", BUILTIN_TYPES), ("builtins", BUILTIN_TYPES), ("_codecs", &["encode"]), ("torch.serialization", &["_get_layout"])];
const BUILTIN_TYPES: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "unicode",
    "xrange",
];

/// True for a name that acts on the world or runs code.
pub(in super::super) fn acts(module: &str, name: &str) -> bool {
    if PLAIN.iter().any(|(m, names)| *m == module && names.contains(&name)) {
        return false;
    }
    let package = module.split('.').next().unwrap_or(module);
    // From protocol 4 on a name may be a path: `torch`, `hub.load` is `torch.hub`, `load`.
    let below = |prefix: &&str| {
        let full = [module, ".", name].concat();
        full.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // A path may also walk out of a harmless module through its imports: `argparse`, `_os.system`.
    let through = name.split('.').rev().skip(1).any(|step| ACTING.binary_search(&step.trim_matches('_')).is_ok());
    ACTING.binary_search(&package).is_ok() || through || ACTING_BELOW.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_the_search() {
        assert!(ACTING.is_sorted());
    }

    #[test]
    fn names_that_act_are_told_from_data() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("__builtin__", "getattr"),
            ("subprocess", "Popen"),
            ("os.path", "join"),
            ("torch.hub", "load"),
            ("torch", "hub.load"),
            ("torch", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("argparse", "_os.system"),
            ("functools", "partial"),
            ("importlib.util", "find_spec"),
            ("_codecs", "decode"),
        ] {
            assert!(acts(module, name), "{module}.{name}");
        }
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch", "Size"),
            ("argparse", "Namespace"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy", "dtype"),
            ("builtins", "set"),
            ("_codecs", "encode"),
            ("pathlib", "PosixPath"),
            ("omegaconf.dictconfig", "DictConfig"),
        ] {
            assert!(!acts(module, name), "{module}.{name}");
        }
    }
}
