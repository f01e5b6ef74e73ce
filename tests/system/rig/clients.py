# SPDX-License-Identifier: MIT
"""The publishing programs of tests/clients: what they need, and how to run them.

Packages come through each language's package manager, once, into a folder outside of the tree, named after what was asked
for, so that another version is another folder.
"""
import fcntl
import hashlib
import os
import shutil
import subprocess

SOURCES = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../clients"))
CACHE = os.environ.get("HARK_TEST_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hark-tests")


def _source(*names):
    return os.path.join(SOURCES, *names)


def _run(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, **options)
    assert done.returncode == 0, "%s\n%s%s" % (" ".join(argv), done.stdout[-4000:], done.stderr[-4000:])


def _need(program, package):
    assert shutil.which(program), "%s is missing: apt-get install -y %s (tests/tools/setup does it)" % (program, package)


def _prepared(name, files, build):
    """The folder that build(folder) has once filled, for these very files."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as data:
            digest.update(data.read())
    folder = os.path.join(CACHE, "%s-%s" % (name, digest.hexdigest()[:16]))
    os.makedirs(CACHE, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(folder):
            shutil.rmtree(folder + ".new", ignore_errors=True)
            os.makedirs(folder + ".new")
            build(folder + ".new")
            os.rename(folder + ".new", folder)
    return folder


def _go():
    _need("go", "golang-go")
    files = [_source("go", name) for name in ("go.mod", "go.sum", "main.go")]

    def build(folder):
        environment = dict(os.environ, GOFLAGS="-mod=readonly -buildvcs=false", GOTOOLCHAIN="local")
        environment.setdefault("HOME", folder)
        _run(["go", "build", "-o", os.path.join(folder, "publish"), "."], cwd=_source("go"), env=environment)
    return [os.path.join(_prepared("go", files, build), "publish")], {}


def _node():
    _need("node", "nodejs")
    _need("npm", "npm")

    def build(folder):
        shutil.copy(_source("node", "package.json"), folder)
        _run(["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
    folder = _prepared("node", [_source("node", "package.json")], build)
    return ["node", _source("node", "publish.js")], {"NODE_PATH": os.path.join(folder, "node_modules")}


def _java():
    _need("javac", "default-jdk-headless")
    _need("mvn", "maven")
    files = [_source("java", "pom.xml"), _source("java", "Publish.java")]

    def build(folder):
        _run(["mvn", "-q", "-B", "-f", files[0], "dependency:copy-dependencies", "-DoutputDirectory=" + folder])
        _run(["javac", "-encoding", "UTF-8", "-cp", folder + "/*", "-d", folder, files[1]])
    folder = _prepared("java", files, build)
    return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", folder + ":" + folder + "/*", "Publish"], {}


def _php():
    _need("php", "php-cli php-amqplib")
    return ["php", _source("publish.php")], {}


def _ruby():
    _need("ruby", "ruby-bunny")
    return ["ruby", _source("publish.rb")], {}


def _c():
    _need("amqp-publish", "amqp-tools")
    return [_source("publish.sh")], {}


def _pika():
    return ["/usr/bin/python3", _source("publish.py")], {}


CLIENTS = {"pika": _pika, "go": _go, "node": _node, "java": _java, "php": _php, "ruby": _ruby, "c": _c}


def publish(name, url):
    """Runs the client to its end; fails with its output if it fails."""
    argv, more = CLIENTS[name]()
    _run(argv + [url], env=dict(os.environ, **more), timeout=60)
