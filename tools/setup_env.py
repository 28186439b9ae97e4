"""Make .venv with the exact versions of constraints.txt; do nothing where that is done already.

It must run on any Python, and refuse politely on those that the course cannot use: hence the plain style.
"""

from __future__ import print_function

import errno
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
VENV_PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")
STAMP = os.path.join(VENV, "course-is-installed")
LOG = os.path.join(VENV, "install.log")
OLDEST = (3, 11)
NEWEST_TRIED = (3, 13)
EXTRAS = "test,dev,log,bench,html,browser"
GB = 1e9
# PyTorch for Linux brings NVIDIA's libraries along, with or without a GPU.
NEEDED = {"linux": (6.7, 3.0), "other": (2.5, 1.5)}  # GB for .venv, GB for the downloads


def version_problem(version):
    """Why this version of Python cannot be used, or None."""
    if tuple(version[:2]) >= OLDEST:
        return None
    return (
        "This is Python %d.%d, and the course needs Python %d.%d or newer. Install one (python.org, your package "
        "manager, or conda). If you have one under another name, say so: make setup PYTHON=python3.12"
        % (version[0], version[1], OLDEST[0], OLDEST[1])
    )


def venv_problem():
    """Why this Python cannot make an environment, or None."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return (
            "This Python (%s) comes without the modules venv and ensurepip. On Debian and Ubuntu run "
            "`sudo apt install python%d.%d-venv`, then run this again."
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )
    return None


def disk_problem(free=None):
    """Why the disk is too small, or None. `free` takes a folder and returns its free bytes."""
    free = free or (lambda folder: shutil.disk_usage(folder).free)
    for_venv, for_downloads = NEEDED["linux" if sys.platform.startswith("linux") else "other"]
    temporary = tempfile.gettempdir()
    same = os.stat(temporary).st_dev == os.stat(ROOT).st_dev
    wanted = [(ROOT, for_venv + (for_downloads if same else 0), "")]
    if not same:
        wanted.append(
            (temporary, for_downloads, ", or name another folder for downloads (TMPDIR=/a/folder make setup)")
        )
    for folder, needed, otherwise in wanted:
        if free(folder) < needed * GB:
            return (
                "Not enough room: %s has %.1f GB free, and the installation needs %.1f GB (most of it is PyTorch). "
                "Free some space%s, then run this again." % (folder, free(folder) / GB, needed, otherwise)
            )
    return None


def wanted_stamp():
    """What the stamp holds when .venv is up to date."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        with io.open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read().replace(b"\r\n", b"\n"))
    return "%s %s" % (ROOT, digest.hexdigest())


def is_done():
    """Whether .venv has just these versions, in just this folder."""
    if not (os.path.exists(STAMP) and os.path.exists(VENV_PYTHON)):
        return False
    with io.open(STAMP, encoding="utf-8") as file:
        return file.read() == wanted_stamp()


def venv_version():
    """(major, minor) of the Python in .venv; None if there is none or it does not start (moved, upgraded away)."""
    command = [VENV_PYTHON, "-c", "import sys, pip; print('%d %d' % sys.version_info[:2])"]
    try:
        answer = subprocess.check_output(command, stderr=subprocess.STDOUT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(int(number) for number in answer.split()[-2:])


def make_venv():
    """Make .venv from scratch with the Python that runs this."""
    import venv

    print("Making .venv with Python %d.%d (%s)." % (sys.version_info[0], sys.version_info[1], sys.executable))
    venv.create(VENV, with_pip=True, clear=True, symlinks=os.name != "nt")


def install():
    """Install the course and all it needs into .venv; True if that went well."""
    command = [VENV_PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "-c"]
    command += ["constraints.txt", "-e", ".[%s]" % EXTRAS]
    pip = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with io.open(LOG, "w", encoding="utf-8") as log:
            for raw in pip.stdout or ():
                line = raw.decode("utf-8", "replace")
                log.write(line)
                log.flush()
                large = re.match(r"\s*(?:Downloading|Using cached) (\S+?)-(\d\S*?)-\S+ \((\d+(?:\.\d+)?) MB\)", line)
                if large and float(large.group(3)) >= 50:
                    print("  %s %s, %.0f MB" % (large.group(1), large.group(2), float(large.group(3))))
                elif line.startswith("Installing collected packages"):
                    print("  all is here; writing it to .venv takes a few minutes ...")
                sys.stdout.flush()
        return pip.wait() == 0
    finally:
        if pip.poll() is None:
            pip.kill()


def why_it_failed():
    """A sentence made from pip's log."""
    with io.open(LOG, encoding="utf-8") as file:
        text = file.read()
    if "No space left on device" in text or "Errno 28" in text:
        return "The disk is full. Free some space, then run this again."
    if re.search(r"SSLError|CERTIFICATE_VERIFY_FAILED", text):
        return (
            "The package index could not be trusted: a proxy or a virus scanner may stand between. Ask for its "
            "certificate and name it, as in PIP_CERT=/a/folder/certificate.pem make setup"
        )
    if re.search(r"NewConnectionError|NameResolutionError|Temporary failure|(Connect|Read)Timeout|ProxyError", text):
        return "The package index could not be reached. Look at your network, then run this again."
    if "No matching distribution found" in text:
        return (
            "A package has no build for this Python (%d.%d) on this system. The versions in constraints.txt were tried "
            "with Python %d.%d to %d.%d: choose one of these, as in make setup PYTHON=python3.12"
            % (sys.version_info[:2] + OLDEST + NEWEST_TRIED)
        )
    return "Its last lines were:\n" + "\n".join("    " + line for line in text.strip().splitlines()[-5:])


def what_went_wrong(error):
    """A sentence made from an error of the operating system, or from a program that it stopped."""
    if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(ROOT).free < 0.1 * GB:
        return "The disk is full. Free some space, then run this again."
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "This folder cannot be written: %s. Move the course to a folder of your own." % error
    return "The environment .venv could not be made: %s. Delete .venv if it is there, then run this again." % error


def stop(sentence):
    """Say what is wrong and what to do, and end."""
    print(sentence, file=sys.stderr)
    return 1


def main(arguments):
    """Make the environment; 0 if it is there at the end."""
    problem = version_problem(sys.version_info) or venv_problem()
    if "--tried" in arguments:
        problem = problem or sys.version_info[:2] > NEWEST_TRIED
    if "--usable" in arguments:
        return 1 if problem else 0
    asked_for = "--asked-for" in arguments
    if asked_for and problem:
        return stop(problem)
    if is_done() and not (asked_for and venv_version() != sys.version_info[:2]):
        print("The environment .venv is up to date.")
        return 0
    problem = problem or (None if os.path.isdir(VENV) else disk_problem())
    if problem:
        return stop(problem)
    begin = time.time()
    if os.path.exists(STAMP):  # an installation that ends half-way leaves neither the old state nor the new one
        os.remove(STAMP)
    present = venv_version()
    if present is None or present < OLDEST or (asked_for and present != sys.version_info[:2]):
        make_venv()
    print("Installing the versions in constraints.txt, a few GB the first time (log: .venv/install.log).")
    sys.stdout.flush()
    if not install():
        return stop("The installation failed. %s\nThe whole log: %s" % (why_it_failed(), LOG))
    with io.open(STAMP, "w", encoding="utf-8") as file:
        file.write(wanted_stamp())
    print("The environment .venv is ready after %.0f seconds." % (time.time() - begin))
    return 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        status = stop("Stopped. Run this again to go on.")
    except (OSError, subprocess.CalledProcessError) as error:
        status = stop(what_went_wrong(error))
    sys.exit(status)
