"""tools/setup on machines of many kinds: a PATH of stand-ins, no network."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.paths import REPOSITORY

PROJECT_FILES = ("tools/setup", "requirements.txt", "requirements-dev.txt", "requirements.lock", "pyproject.toml")
SYSTEM_PROGRAMS = (
    *("sh", "cat", "cksum", "dirname", "env", "grep", "head", "mkdir", "printenv", "rm", "sed", "tail", "tr", "cp"),
    *("chmod", "ln"),
)

# A Python interpreter as far as tools/setup talks to one. $has lists what this one brings.
PYTHON = """\
has="{has}"
can() {{ case " $has " in *" $1 "*) ;; *) echo "No module named $1" >&2; exit 1 ;; esac; }}
case "$*" in
  "-c ") ;;
  "-c "*sys.executable*) echo "$0" ;;
  "-c "*version_info*) echo "{version}" ;;
  "-m pip --version") can pip ;;
  "-m pip config list") can pip; cat {pip_configuration} ;;
  "-m pip install "*) can pip; echo "pip $*" >>{calls}; {pip_install} ;;
  "-m venv "*)
    can ensurepip
    mkdir -p "$3/bin"
    sed 's/^has=.*/has="pip"/' "$0" >"$3/bin/python"
    chmod +x "$3/bin/python" ;;
  "-m tools.compile_function_packages") ;;
  *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""
PIP_INSTALLS_UV = """
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/bin" && cp {uv} "$2/bin/uv"
"""
UV = """\
echo "uv $*" >>{calls}
env | grep -E '^(UV|SSL|HTTPS|NODE)_' >>{environment}
case "$1" in
  venv) {venv} ;;
  pip) {pip} ;;
esac
"""
NO_PYTHON_TO_DOWNLOAD = """
echo 'error: Request failed after 3 retries in 6.5s
  cause: Failed to download `https://example.invalid/cpython-3.13.tar.gz`
  cause: dns error' >&2
exit 2
"""


@dataclass
class Machine:
    """A folder with a copy of the project and a PATH of its own."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in PROJECT_FILES:
            (self.root / "project" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, self.root / "project" / name)
        for folder in ("path", "stand-ins"):
            (self.root / folder).mkdir()
        for program in SYSTEM_PROGRAMS:
            (self.root / "path" / program).symlink_to(shutil.which(program))
        self.pip_configuration.touch()
        self.write_uv()

    @property
    def pip_configuration(self):
        return self.root / "pip-configuration"

    def program(self, path, text):
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return path

    def write_uv(self, venv=None, pip=""):
        venv = venv or f"mkdir -p .venv/bin && cp {self.root}/stand-ins/python .venv/bin/python"
        self.add_python(self.root / "stand-ins" / "python", "3.13")
        text = UV.format(calls=self.root / "calls", environment=self.root / "environment", venv=venv, pip=pip)
        return self.program(self.root / "stand-ins" / "uv", text)

    def add_uv(self):
        shutil.copy(self.root / "stand-ins" / "uv", self.root / "path" / "uv")

    def add_python(self, name, version, *has, pip_install=PIP_INSTALLS_UV):
        text = PYTHON.format(
            has=" ".join(has),
            version=version,
            pip_configuration=self.pip_configuration,
            calls=self.root / "calls",
            pip_install=pip_install.format(uv=self.root / "stand-ins" / "uv"),
        )
        self.program(self.root / "path" / name, text)

    def run(self, command="python"):
        return subprocess.run(
            [self.root / "project/tools/setup", command],
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": str(self.root / "path"), **self.variables},
        )

    def calls(self):
        return (self.root / "calls").read_text().splitlines()

    def uv_environment(self):
        return dict(line.split("=", 1) for line in (self.root / "environment").read_text().splitlines())


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def succeeded(done):
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def failed_in_one_line(done, *words):
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("set-up: ")
    for word in words:
        assert word in line
    assert not done.stdout


def test_uv_on_path_is_used_and_pip_is_not(machine):
    machine.add_uv()
    machine.add_python("python3", "3.12", "pip")
    succeeded(machine.run())
    venv, install = machine.calls()
    assert venv == "uv venv --allow-existing .venv"
    assert install.startswith(
        "uv pip install --python .venv/bin/python --require-hashes --constraint requirements.lock"
    )
    assert install.endswith("--requirement requirements.txt")


def test_the_one_command_is_linked_into_the_environment(machine):
    machine.add_uv()
    succeeded(machine.run())
    succeeded(machine.run())
    link = machine.root / "project/.venv/bin/inference-lab"
    assert link.readlink() == Path("../../tools/inference-lab")
    assert link.resolve().parent == (machine.root / "project/tools").resolve()


def test_uv_on_path_needs_no_python_at_all(machine):
    machine.add_uv()
    succeeded(machine.run())


def test_without_uv_pip_fetches_the_pinned_uv_by_its_hash(machine):
    machine.add_python("python3", "3.12", "pip")
    succeeded(machine.run())
    pip, *_ = machine.calls()
    assert "--require-hashes" in pip
    assert not (machine.root / "project/.venv/bootstrap").exists()


def test_a_version_managers_wrapper_takes_no_part_in_pips_work(machine):
    wrapped = machine.root / "stand-ins" / "python 3.12"
    machine.add_python(wrapped, "3.12", "pip")
    after_pip = "echo 'pyenv: cannot rehash: shims are not writable' >&2; exit 1"
    wrapper = f"""case "$*" in *"pip install"*) {after_pip} ;; esac; exec "{wrapped}" "$@"\n"""
    machine.program(machine.root / "path" / "python3", wrapper)
    succeeded(machine.run())


def test_the_lock_yields_uv_with_its_hashes_alone(machine):
    kept = f"cp .venv/bootstrap/uv.txt {machine.root}/uv.txt; {PIP_INSTALLS_UV}"
    machine.add_python("python3", "3.12", "pip", pip_install=kept)
    succeeded(machine.run())
    first, *rest = (machine.root / "uv.txt").read_text().splitlines()
    assert first.startswith("uv==")
    assert rest
    assert all(line.startswith("    --hash=sha256:") for line in rest)


def test_debian_without_pip_fetches_uv_by_a_virtual_environment(machine):
    machine.add_python("python3", "3.11", "ensurepip")
    succeeded(machine.run())
    assert machine.calls()[0].startswith("pip -m pip install")


def test_debian_without_ensurepip_but_with_pip_works(machine):
    machine.add_python("python3", "3.11", "pip")
    succeeded(machine.run())


def test_neither_pip_nor_ensurepip_names_the_package_to_install(machine):
    machine.add_python("python3", "3.11")
    failed_in_one_line(machine.run(), "sudo apt install python3-venv")


def test_a_machine_with_only_python_3_14_gets_another_from_uv(machine):
    machine.add_python("python3", "3.14", "pip")
    succeeded(machine.run())
    assert "uv venv --allow-existing .venv" in machine.calls()


def test_a_python_that_uv_cannot_download_is_one_line(machine):
    machine.write_uv(venv=NO_PYTHON_TO_DOWNLOAD)
    machine.add_python("python3", "3.14", "pip")
    failed_in_one_line(machine.run(), "Python 3.11, 3.12, or 3.13", "Install python3.13", "make PYTHON=")


def test_a_named_python_is_the_one_used(machine):
    machine.add_uv()
    machine.variables["PYTHON"] = "python3.12"
    succeeded(machine.run())
    assert "uv venv --allow-existing --python python3.12 .venv" in machine.calls()


def test_an_environment_of_an_unsupported_python_says_how_to_replace_it(machine):
    machine.add_uv()
    machine.add_python(machine.root / "stand-ins" / "python", "3.14")
    failed_in_one_line(machine.run(), "Python 3.14", "make clean")


def test_an_environment_that_works_is_kept(machine):
    machine.add_uv()
    succeeded(machine.run())
    succeeded(machine.run("dev"))
    assert [call.split()[1] for call in machine.calls()] == ["venv", "pip", "pip"]
    assert machine.calls()[-1].endswith("--requirement requirements-dev.txt")


def test_an_environment_whose_python_is_gone_is_repaired(machine):
    machine.add_uv()
    succeeded(machine.run())
    python = machine.root / "project/.venv/bin/python"
    python.unlink()
    python.symlink_to(machine.root / "gone")
    machine.write_uv(venv=f"rm .venv/bin/python; cp {machine.root}/stand-ins/python .venv/bin/python")
    machine.add_uv()
    succeeded(machine.run())


def test_a_mirror_in_pips_configuration_reaches_uv(machine):
    machine.pip_configuration.write_text(
        textwrap.dedent(f"""\
            global.cert='/etc/company.pem'
            global.extra-index-url='\\nhttps://one.invalid/simple\\nhttps://two.invalid/simple'
            global.find-links='/nowhere {machine.root}'
            global.index-url='https://global.invalid/simple'
            global.proxy='http://proxy.invalid:3128'
            global.timeout='90'
            global.trusted-host='mirror.invalid'
            install.index-url='https://mirror.invalid/simple'
        """)
    )
    machine.add_python("python3", "3.12", "pip")
    succeeded(machine.run())
    assert machine.uv_environment().items() >= {
        ("UV_INDEX_URL", "https://mirror.invalid/simple"),
        ("UV_EXTRA_INDEX_URL", "https://one.invalid/simple https://two.invalid/simple"),
        ("UV_FIND_LINKS", str(machine.root)),
        ("UV_INSECURE_HOST", "mirror.invalid"),
        ("UV_HTTP_TIMEOUT", "90"),
        ("UV_INDEX_STRATEGY", "unsafe-best-match"),
        ("HTTPS_PROXY", "http://proxy.invalid:3128"),
        ("SSL_CERT_FILE", "/etc/company.pem"),
        ("NODE_EXTRA_CA_CERTS", "/etc/company.pem"),
    }


def test_pips_environment_variables_win_over_its_files(machine):
    machine.pip_configuration.write_text(
        ":env:.index-url='https://env.invalid'\nglobal.index-url='https://file.invalid'\n"
    )
    machine.add_python("python3", "3.12", "pip")
    succeeded(machine.run())
    assert machine.uv_environment()["UV_INDEX_URL"] == "https://env.invalid"


def test_pips_environment_variables_count_where_pip_is_not_installed(machine):
    machine.add_uv()
    machine.variables |= {"PIP_INDEX_URL": "https://env.invalid", "PIP_DEFAULT_TIMEOUT": "180"}
    succeeded(machine.run())
    assert machine.uv_environment().items() >= {("UV_INDEX_URL", "https://env.invalid"), ("UV_HTTP_TIMEOUT", "180")}


def test_uvs_own_variables_win_over_pips(machine):
    machine.add_uv()
    machine.variables |= {"PIP_INDEX_URL": "https://pip.invalid", "UV_INDEX_URL": "https://uv.invalid"}
    succeeded(machine.run())
    assert machine.uv_environment()["UV_INDEX_URL"] == "https://uv.invalid"


def test_the_variables_for_other_programs_are_those_of_set_up(machine):
    machine.pip_configuration.write_text("global.index-url='https://file.invalid'\n")
    machine.add_python("python3", "3.12", "pip")
    machine.variables |= {"PIP_CERT": "/x.pem"}
    done = machine.run("variables")
    succeeded(done)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found.items() >= {("UV_INDEX_URL", "https://file.invalid")}
    assert "PIP_CERT" not in found


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("error: Failed to fetch: https://index.invalid/simple/x/\n  cause: dns error", ["index.invalid", "dns error"]),
        ("  cause: failed to write\n  cause: No space left on device (os error 28)", ["disk is full"]),
        (
            "error: Failed to fetch: https://index.invalid/\n  cause: invalid peer certificate: UnknownIssuer",
            ["PIP_CERT"],
        ),
    ],
    ids=["no network", "full disk", "unknown certificate"],
)
def test_a_failed_installation_is_one_line(machine, output, words):
    machine.write_uv(pip=f"printf '%s\\n' '{output}' >&2; exit 2")
    machine.add_uv()
    failed_in_one_line(machine.run(), *words)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("npm error code ENOTFOUND\nnpm error network request to https://npm.invalid/x failed", ["npm.invalid"]),
        ("npm error code ENOSPC\nnpm error nospc ENOSPC: no space left on device", ["disk is full"]),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN", ["certificate"]),
    ],
    ids=["no network", "full disk", "unknown certificate"],
)
def test_a_failed_npm_is_one_line(machine, output, words):
    machine.program(machine.root / "path" / "npm", f"printf '%s\\n' '{output}' >&2; exit 1")
    failed_in_one_line(machine.run("node"), *words)


def test_pip_without_network_is_one_line(machine):
    offline = "echo 'WARNING: Retrying (Retry(total=4)) after NewConnectionError'; exit 1"
    machine.add_python("python3", "3.12", "pip", pip_install=offline)
    failed_in_one_line(machine.run(), "Check the network")


def test_an_unknown_failure_shows_the_programs_own_words(machine):
    machine.write_uv(pip="echo 'error: something new' >&2; exit 2")
    machine.add_uv()
    done = machine.run()
    assert done.returncode == 1
    assert "error: something new" in done.stderr


def test_downloads_are_shown_as_they_begin(machine):
    machine.write_uv(pip="echo 'Downloading tensorflow-cpu (261.1MiB)' >&2; echo 'Resolved 162 packages' >&2")
    machine.add_uv()
    done = machine.run()
    assert done.returncode == 0
    assert done.stderr == "Downloading tensorflow-cpu (261.1MiB)\n"


def test_an_outdated_lock_is_refused_before_anything_is_installed(machine):
    machine.add_uv()
    with (machine.root / "project/requirements.txt").open("a") as file:
        file.write("one-more==1.0\n")
    failed_in_one_line(machine.run(), "Run: make lock")
    assert not (machine.root / "calls").exists()


def test_a_comment_does_not_outdate_the_lock(machine):
    with (machine.root / "project/requirements-dev.txt").open("a") as file:
        file.write("# a remark\n\n")
    succeeded(machine.run("check-lock"))


def test_the_lock_takes_its_hashes_from_the_main_index_alone(machine):
    machine.add_uv()
    machine.variables |= {
        "PIP_INDEX_URL": "https://mirror.invalid",
        "PIP_EXTRA_INDEX_URL": "https://extra.invalid",
        "PIP_FIND_LINKS": str(machine.root),
    }
    succeeded(machine.run("lock"))
    assert machine.uv_environment()["UV_INDEX_URL"] == "https://mirror.invalid"
    assert not machine.uv_environment().keys() & {"UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"}


def test_a_command_in_the_help_of_make_is_ready_to_paste():
    done = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert 'eval "$(.venv/bin/inference-lab lab env)"' in done.stdout
    assert "$$" not in done.stdout
