#!/usr/bin/env python3
"""Checks an export of the audit log, offline and without the product: check_export.py FOLDER VKEY [--excerpt]

The folder is of either form: tiles (C2SP tlog-tiles, with the details beside them) or lines of JSON with a proof each.

Written from docs/audit.md, RFC 9162 section 2.1 and the C2SP formats. Python's standard library; the signature of the checkpoint
needs the package `cryptography` and is reported as not checked where that is missing.

Exit code 0: everything holds. 4: something does not, and the last line says what. 2: wrong usage.
"""

import base64
import binascii
import datetime
import hashlib
import json
import pathlib
import re
import sys
import uuid

from strict_cbor import Refused, decode

CLOCKS = ["unknown", "synchronised", "unsynchronised"]
LEVELS = ["Ongerubriceerd", "Dep.V", "Stg.C", "Stg.G", "Stg.ZG"]
VERBS = (
    "Accepted Refused Delivered Withheld Receipt Opened Forwarded Extracted Printed Exported Recalled Expired Regraded Destroyed "
    "SessionOpened SessionClosed SessionRefused RegisterChanged PolicyChanged ConfigurationChanged CrlChanged AuditRead "
    "ClockStepped Checkpoint Started Stopped ReviewDue EventDeclared CopyMade Reviewed IncidentOpened IncidentClosed Alarm "
    "DetailsDropped Chased Escalated Superseded AttachmentRemoved RenewalAsked Renewed"
).split()
NAME = re.compile(r"[a-z0-9-]+\.(node|person|officer|broker)\.[a-z0-9.-]+")


class Fault(Exception):
    """What does not hold, and where."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def need(holds, why):
    if not holds:
        raise Fault(why)


def unbase64(text):
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Fault("not base64") from None


# --- checkpoint -------------------------------------------------------------------------------------------------------------------


def read_vkey(text):
    """name+id+base64(type || key) -> name, id, key"""
    parts = text.split("+", 2)
    need(len(parts) == 3, "a verifier key reads name+id+key")
    name, key_id, key = parts[0], parts[1], unbase64(parts[2])
    need(len(key) == 33 and key[0] == 1, "the verifier key is no Ed25519 key")
    want = sha256(name.encode(), b"\n", key)[:4]
    need(want.hex() == key_id, "the id of the verifier key does not fit")
    return name, want, key[1:]


def ed25519(public, message, signature):
    """True, False, or None where it cannot be checked here."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def read_checkpoint(raw, vkey):
    """-> size, root, whether the signature was checked"""
    name, key_id, public = read_vkey(vkey)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("not UTF-8") from None
    body, gap, signatures = text.rpartition("\n\n")
    need(gap and signatures.endswith("\n"), "not a signed note")
    lines = body.split("\n")
    need(len(lines) == 3, "a checkpoint has three lines")
    need(lines[0] == name, "of another log")
    need(re.fullmatch("0|[1-9][0-9]*", lines[1]), "the size is no number")
    size, root = int(lines[1]), unbase64(lines[2])
    need(len(root) == 32 and base64.b64encode(root).decode() == lines[2], "the root is no hash")
    signed = False
    for line in signatures[:-1].split("\n"):
        match = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        need(match, "a signature line has another form")
        blob = unbase64(match[2])
        need(base64.b64encode(blob).decode() == match[2], "a signature has another form")
        if match[1] == name and blob[:4] == key_id:
            need(len(blob) == 68, "the signature has another length")
            verdict = ed25519(public, (body + "\n").encode(), blob[4:])
            need(verdict is not False, "the signature does not fit")
            signed = True if verdict else None
    need(signed is not False, "not signed by this key")
    return size, root, bool(signed)


# --- records ----------------------------------------------------------------------------------------------------------------------


def time(ms):
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    return at.isoformat(timespec="milliseconds") + "Z"


def public_fields(raw):
    item = decode(raw)
    need(isinstance(item, list) and len(item) == 6, "no record")
    need(all(type(n) is int and n >= 0 for n in item[:5]), "a number is none")
    need(item[1] <= 253402300799999 and item[2] <= 2, "the time or the clock is none")
    need(1 <= item[3] <= len(VERBS) and item[4] <= 4, "the verb or the level is none")
    need(type(item[5]) is bytes and len(item[5]) == 32, "the commitment is no hash")
    return {
        "sequence": item[0],
        "time": time(item[1]),
        "clock": CLOCKS[item[2]],
        "verb": VERBS[item[3] - 1],
        "level": LEVELS[item[4]],
        "commitment": item[5].hex(),
    }


def detail_fields(raw):
    item = decode(raw)
    need(isinstance(item, list) and len(item) == 10, "no detail")

    def field(at, of, right, show):
        value = item[at]
        if value is None:
            return None
        need(type(value) is of and right(value), f"item {at + 1} of the detail has another form")
        return show(value)

    def name(at):
        return field(at, str, lambda n: len(n) <= 120 and NAME.fullmatch(n), str)

    def digest(at):
        return field(at, bytes, lambda d: len(d) == 32, bytes.hex)

    def in_force(v):
        return len(v) == 2 and type(v[0]) is int and v[0] >= 0 and type(v[1]) is bytes and len(v[1]) == 32

    register = field(6, list, in_force, lambda v: (v[0], v[1].hex()))
    return {
        "who": name(0),
        "person": name(1),
        "to": name(2),
        "message": field(3, bytes, lambda b: len(b) == 16 and b[6] >> 4 == 7, lambda b: str(uuid.UUID(bytes=b))),
        "digest": digest(4),
        "rule": field(5, int, lambda n: 0 <= n < 1 << 16, lambda n: f"POL-{n:02}"),
        "register": register[1] if register else None,
        "register_version": register[0] if register else None,
        "policy": digest(7),
        "copy": field(8, int, lambda n: 0 <= n < 1 << 32, int),
        "note": field(9, str, lambda t: len(t) <= 200, str),
    }


def load(line):
    try:
        value = json.loads(line)
    except ValueError:
        raise Fault("the line is no JSON") from None
    need(isinstance(value, dict), "the line is no JSON object")
    return value


def unhex(value):
    need(isinstance(value, str) and re.fullmatch("([0-9a-f]{2})*", value), "not hexadecimal")
    return bytes.fromhex(value)


def same(line, fields):
    """Whether the line is the one form of these fields."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    need(text == line, "the line was changed")


def read_record(line):
    """-> sequence, leaf hash, whether its detail is there"""
    value = load(line)
    public = unhex(value.get("public"))
    fields = public_fields(public)
    opened = value.get("salt") is not None or value.get("detail_bytes") is not None
    salt, detail = None, None
    if opened:
        salt, detail = unhex(value.get("salt")), unhex(value.get("detail_bytes"))
    fields |= {
        "public": public.hex(),
        "salt": salt.hex() if opened else None,
        "detail": detail_fields(detail) if opened else None,
        "detail_bytes": detail.hex() if opened else None,
    }
    same(line, fields)
    if opened:
        need(len(salt) == 32, "the salt has another length")
        need(sha256(salt, detail).hex() == fields["commitment"], "the detail is not the one that was recorded")
    return fields["sequence"], sha256(b"\0", public), opened


def read_proof(line):
    value = load(line)
    number, leaf, proof = value.get("sequence"), value.get("leaf"), value.get("proof")
    need(type(number) is int and number >= 0 and isinstance(proof, list), "no proof")
    leaf, hashes = unhex(leaf), [unhex(h) for h in proof]
    need(all(len(h) == 32 for h in [leaf, *hashes]), "a hash has another length")
    same(line, {"sequence": number, "leaf": leaf.hex(), "proof": proof})
    return number, leaf, hashes


# --- tree -------------------------------------------------------------------------------------------------------------------------


def root_of_path(size, index, leaf, path):
    """RFC 9162 section 2.1.3.2; None where the path has the wrong length."""
    at, last, root = index, size - 1, leaf
    for other in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            root = sha256(b"\1", other, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = sha256(b"\1", root, other)
        at, last = at >> 1, last >> 1
    return root if last == 0 else None


def tree_root(leaves):
    """RFC 9162 section 2.1.1, level by level: a node without a neighbour moves up as it is."""
    if not leaves:
        return sha256()
    while len(leaves) > 1:
        pairs = [sha256(b"\1", leaves[i], leaves[i + 1]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + ([leaves[-1]] if len(leaves) % 2 else [])
    return leaves[0]


def lines_of(raw):
    """The lines, or a fault for the one that is none."""
    *lines, rest = raw.split(b"\n")
    return [*lines, rest + b"!"] if rest else lines


def text_of(line):
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("not UTF-8") from None


def check(folder, vkey, excerpt=False):
    """-> a report for people. Raises Fault."""

    def about(where, act, *args):
        try:
            return act(*args)
        except (Fault, Refused) as e:
            raise Fault(f"{where}: {e}") from None

    size, root, signed = about("checkpoint", read_checkpoint, (folder / "checkpoint").read_bytes(), vkey)
    records = lines_of((folder / "records.jsonl").read_bytes())
    proofs = lines_of((folder / "proofs.jsonl").read_bytes())
    leaves, details, least = [], 0, 0
    for n, line in enumerate(records):
        here, there = f"records.jsonl, record {n}", f"proofs.jsonl, record {n}"
        sequence, leaf, opened = about(here, lambda l: read_record(text_of(l)), line)
        need(sequence >= least if excerpt else sequence == n, f"{here}: another record stands here")
        need(n < len(proofs), f"{there}: the proof is missing")
        number, stated, path = about(there, lambda l: read_proof(text_of(l)), proofs[n])
        need(number == sequence, f"{there}: the proof of another record stands here")
        need(number < size and root_of_path(size, number, stated, path) == root, f"{there}: it does not lead to the signed root")
        need(stated == leaf, f"{here}: the record is not in the signed log")
        leaves.append(leaf)
        details += opened
        least = sequence + 1
    need(len(proofs) == len(records), "proofs.jsonl: proofs are left over")
    if not excerpt:
        need(len(records) == size, f"records.jsonl, record {len(records)}: the signed log has {size} records")
        need(tree_root(leaves) == root, "records.jsonl: the records do not lead to the signed root")
    what = "an excerpt; others may have been left out" if excerpt else "complete"
    by = "signature checked" if signed else "SIGNATURE NOT CHECKED: the Python package cryptography is not here"
    return f"{len(records)} records of {size}, {what}; {details} details opened; root {root.hex()}; {by}"


# --- tiles ------------------------------------------------------------------------------------------------------------------------

TILE = 256


def tile_path(folder, n, width):
    groups = [f"{n % 1000:03}"]
    while n >= 1000:
        n //= 1000
        groups.append(f"x{n % 1000:03}")
    number = "/".join(reversed(groups))
    return f"{folder}/{number}" + ("" if width == TILE else f".p/{width}")


def items_of(raw, width):
    """A bundle: each item behind its length in two bytes."""
    at, items = 0, []
    for _ in range(width):
        need(at + 2 <= len(raw), "the bundle is too short")
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        need(end <= len(raw), "the bundle is too short")
        items.append(raw[at + 2 : end])
        at = end
    need(at == len(raw), "the bundle is too long")
    return items


def check_tiles(folder, vkey):
    """-> a report for people. Raises Fault."""

    def about(where, act, *args):
        try:
            return act(*args)
        except (Fault, Refused) as e:
            raise Fault(f"{where}: {e}") from None

    size, root, signed = about("checkpoint", read_checkpoint, (folder / "checkpoint").read_bytes(), vkey)
    leaves, details = [], 0
    for n in range((size + TILE - 1) // TILE):
        width = min(TILE, size - n * TILE)
        entries, beside = tile_path("tile/entries", n, width), tile_path("details", n, width)
        publics = about(entries, items_of, (folder / entries).read_bytes(), width)
        opened = about(beside, items_of, (folder / beside).read_bytes(), width)
        for i, (public, detail) in enumerate(zip(publics, opened)):
            here = f"{entries}, record {n * TILE + i}"
            fields = about(here, public_fields, public)
            need(fields["sequence"] == n * TILE + i, f"{here}: another record stands here")
            if detail:
                need(len(detail) > 32, f"{here}: the detail is none")
                about(here, detail_fields, detail[32:])
                need(sha256(detail).hex() == fields["commitment"], f"{here}: the detail is not the one that was recorded")
                details += 1
            leaves.append(sha256(b"\0", public))
    level, hashes = 0, leaves
    while hashes:
        for n in range((len(hashes) + TILE - 1) // TILE):
            part = hashes[n * TILE : (n + 1) * TILE]
            path = tile_path(f"tile/{level}", n, len(part))
            need((folder / path).read_bytes() == b"".join(part), f"{path}: the hashes are not those of the records")
        full = len(hashes) // TILE
        hashes = [tree_root(hashes[n * TILE : (n + 1) * TILE]) for n in range(full)]
        level += 1
    need(tree_root(leaves) == root, "checkpoint: the records do not lead to the signed root")
    by = "signature checked" if signed else "SIGNATURE NOT CHECKED: the Python package cryptography is not here"
    return f"{size} records of {size}, complete; {details} details opened; root {root.hex()}; {by}"


def main(args):
    excerpt = "--excerpt" in args
    rest = [a for a in args if a != "--excerpt"]
    if len(rest) != 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        folder = pathlib.Path(rest[0])
        tiles = (folder / "tile").is_dir()
        print(check_tiles(folder, rest[1]) if tiles else check(folder, rest[1], excerpt))
        return 0
    except (Fault, OSError) as e:
        print(f"does not hold: {e}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
