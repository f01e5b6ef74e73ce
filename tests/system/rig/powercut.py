# SPDX-License-Identifier: MIT
"""What a disk may hold when the power fails.

`record.c`, preloaded into harkd, writes down every change of the files below a folder, every sync, and all bytes of the
clients' connections, in one order. `Disk` follows it up to some point, and makes the folder as a disk may be found after
a power cut there: what was synced is there; of what was not, each sector of 512 bytes may be, in any order; of the names
that changed in a folder, the first few.
"""
import mmap
import os
import struct
import subprocess

HEAD = struct.Struct("=IIQQQ")
MADE, FOLDER, RENAMED, UNLINKED, WRITTEN, THROUGH, LENGTH, SYNCED, SENT, GOT = range(1, 11)
SECTOR = 512


class Recording:
    """The records of one run of harkd, whose data has to be below `root`."""

    def __init__(self, folder, size=1 << 30):
        os.makedirs(os.path.join(folder, "disk"))
        self.root = os.path.join(os.path.realpath(folder), "disk")
        self.path, library = os.path.join(folder, "record"), os.path.join(folder, "record.so")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library,
                        os.path.join(os.path.dirname(__file__), "record.c"), "-ldl"], check=True)
        with open(self.path, "wb") as file:
            file.write(struct.pack("=Q", 8))
            file.truncate(size)
        self.environment = {"RECORD_FILE": self.path, "RECORD_FOLDER": self.root, "LD_PRELOAD": library,
                            "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}

    def records(self):
        """(position, kind, file, at, bytes) of each."""
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end, at = struct.unpack_from("=Q", data, 0)[0], 8
            while at < end:
                kind, length, following, inode, offset = HEAD.unpack_from(data, at)
                if kind == 0:
                    return      # it was killed while it wrote this one
                yield at, kind, inode, offset, data[at + HEAD.size:at + HEAD.size + length]
                at = following


class _File:
    """Synced bytes, and what has been done since."""

    def __init__(self):
        self.synced = bytearray()
        self.pending = []       # (position, offset, bytes), or (position, length, None)

    def change(self, image, offset, data):
        if data is None:
            if offset < len(image):
                del image[offset:]
            image.extend(bytes(offset - len(image)))
            return
        if len(image) < offset + len(data):
            image.extend(bytes(offset + len(data) - len(image)))
        image[offset:offset + len(data)] = data

    def sync(self):
        for _, offset, data in self.pending:
            self.change(self.synced, offset, data)
        self.pending = []

    def through(self, position):
        """That write is on the disk, with nothing that was done before it."""
        _, offset, data = next(change for change in self.pending if change[0] == position)
        self.change(self.synced, offset, data)

    def found(self, random):
        """What of it may be found."""
        image, way = bytearray(self.synced), random.choice(["nothing", "first", "sectors", "writes", "all"])
        first = random.randint(0, len(self.pending))
        for number, (_, offset, data) in enumerate(self.pending):
            if way == "all" or (way == "first" and number < first) or (
                    way in ("writes", "sectors") and data is None and random.random() < 0.5) or (
                        way == "writes" and random.random() < 0.5):
                self.change(image, offset, data)
            elif way == "sectors" and data is not None:
                for start in range(0, len(data), SECTOR):
                    if random.random() < 0.5:
                        self.change(image, offset + start, data[start:start + SECTOR])
        return image


class Disk:
    """Give it the records in their order."""

    def __init__(self, root):
        self.root = root.encode()
        self.files, self.folders = {}, {}       # by inode; a folder's file is None
        self.names, self.changed = {}, []       # as synced, path -> inode; and since: (folder, function)

    def take(self, position, kind, inode, offset, data):
        if kind in (MADE, FOLDER):
            self.files[inode] = _File() if kind == MADE else None
            if kind == FOLDER:
                self.folders[inode] = data
            self._name(data, lambda names: names.__setitem__(data, inode))
        elif kind == RENAMED:
            source, target = data.split(b"\0")
            self._name(target, lambda names: names.__setitem__(target, names.pop(source)))
        elif kind == UNLINKED:
            self._name(data, lambda names: names.pop(data))
        elif kind == WRITTEN and data:
            self.files[inode].pending.append((position, offset, data))
        elif kind == LENGTH:
            self.files[inode].pending.append((position, offset, None))
        elif kind == THROUGH:
            self.files[inode].through(offset)
        elif kind == SYNCED:
            if self.files.get(inode) is not None:
                self.files[inode].sync()
            else:
                self._sync_folder(inode)

    def _name(self, path, change):
        self.changed.append((os.path.dirname(path), change))

    def _sync_folder(self, inode):
        folder = self.folders.get(inode, self.root)
        for of, change in self.changed:
            if of == folder:
                change(self.names)
        self.changed = [(of, change) for of, change in self.changed if of != folder]

    def make(self, target, random):
        """The folder `target`, as the root may be found after a power cut now."""
        names = dict(self.names)
        for folder in {of for of, _ in self.changed}:
            changes = [change for of, change in self.changed if of == folder]
            for change in changes[:random.randint(0, len(changes))]:
                change(names)
        os.makedirs(target)
        for path, inode in sorted(names.items()):
            if os.path.dirname(path) not in (self.root, *names):
                continue
            path = os.path.join(target, os.path.relpath(path, self.root).decode())
            if self.files[inode] is None:
                os.makedirs(path, exist_ok=True)
                continue
            with open(path, "wb") as file:
                image = self.files[inode].found(random)
                for start in range(0, len(image), 65536):   # holes stay holes
                    piece = image[start:start + 65536]
                    if piece.count(0) != len(piece):
                        file.seek(start)
                        file.write(piece)
                file.truncate(len(image))
