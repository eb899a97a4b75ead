#!/usr/bin/env python3
"""Reads the test vectors without the product: check_vectors.py FOLDER

Written from docs/wire.md and docs/wire.cddl with a CBOR reader of its own, Python's standard library only. Good vectors must have the
documented form and mean what the file says; bad ones must be refused. Which name an error gets depends on the order in which a
decoder looks, so another decoder may give another; here the number of equal names is only counted.

Exit code 0: all agree. 4: one does not, and it is named. 2: wrong usage.
"""

import datetime
import hashlib
import json
import pathlib
import re
import sys
import unicodedata
import uuid

import check_export
from strict_cbor import Refused, Tag, decode

U8, U16, U32, U64 = 255, (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
LAST_TIME = 253402300799999
KIB = 1024
MAX_ATTACHMENT = (1 << 30) + (1 << 20)
MAX_STATEMENT = 16 * KIB
MAX_ACT = 28 * KIB
MAX_SECOND = 9 * KIB
MAX_ENVELOPE = (80 + 8 + 64 * 4 + 160 + 1) * KIB + 128
LIFETIME = 30 * 24 * 60 * 60 * 1000
LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
NAME = re.compile(rf"{LABEL}\.(node|person|officer|broker)(\.{LABEL})+")


def form(holds, what):
    if not holds:
        raise Refused("Form", what)


def limit(holds, what):
    if not holds:
        raise Refused("Limit", what)


def known(holds, what):
    if not holds:
        raise Refused("Unknown", what)


def sha256(data):
    return hashlib.sha256(data).digest()


# --- small parts ------------------------------------------------------------------------------------------------------------------


def uint(v, most=U64):
    form(type(v) is int and v >= 0, "a number")
    limit(v <= most, "a number")
    return v


def boolean(v):
    form(type(v) is bool, "true or false")
    return v


def blob(v, most, exactly=None):
    form(type(v) is bytes, "bytes")
    limit(len(v) <= most, "bytes")
    form(exactly is None or len(v) == exactly, "bytes of another length")
    return v


def text(v, most):
    form(type(v) is str, "a text")
    limit(len(v.encode()) <= most, "a text")
    return v


def array(v, n=None, most=None):
    form(type(v) is list and (n is None or len(v) == n), "an array")
    limit(most is None or len(v) <= most, "an array")
    return v


def null_or(v, read, *args):
    return None if v is None else read(v, *args)


def digest(v):
    return blob(v, 32, 32)


def time(v):
    return uint(v, LAST_TIME)


def rfc3339(ms):
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    return at.isoformat(timespec="milliseconds") + "Z"


def message_id(v):
    blob(v, 16, 16)
    form(v[6] >> 4 == 7 and v[8] >> 6 == 2, "a message id")
    return str(uuid.UUID(bytes=v))


def name(v, kind=None):
    match = NAME.fullmatch(text(v, 120))
    form(match and (kind is None or match[1] == kind), "a name")
    return v


def pairs(v, required, optional=()):
    form(type(v) is dict, "a map")
    known(all(k in required or k in optional for k in v), "a key")
    form(all(k in v for k in required), "a key is missing")
    return v


# --- label, header, envelope ------------------------------------------------------------------------------------------------------


def values(v, empty):
    array(v, most=32)
    form(v or empty, "a category without a value")
    for value in v:
        text(value, 256)
        form(1 <= len(value) <= 64 and re.fullmatch(r"[\w .()-]+", value), "a value")
        form(value.strip() == value and "  " not in value, "a value")
    in_order = all(a.encode() < b.encode() for a, b in zip(v, v[1:]))
    if not in_order:
        raise Refused("NotDeterministic", "values out of order")
    return v


def category_values(v, empty, upper=True):
    all_values = values(v, empty)
    if upper and any(a != a.upper() for a in all_values):
        raise Refused("NotDeterministic", "a value in lower case")
    return ", ".join(all_values) or "NIEMAND"


def foreign_sets(v):
    """The sets of a label under another policy -> its parts, permissive ones first."""
    array(v, most=16)
    form(v, "no sets")
    keys, parts = [], {0: [], 1: [], 2: []}
    for one in v:
        array(one, 3)
        kind = uint(one[0], 2)
        set_name = text(one[1], 256)
        form(1 <= len(set_name) <= 64 and re.fullmatch(r"[\w .()-]+", set_name), "a tag set")
        keys.append((kind, set_name.encode()))
        parts[kind].append(f"{set_name.upper()} {category_values(one[2], empty=kind == 1)}")
    if any(a >= b for a, b in zip(keys, keys[1:])):
        raise Refused("NotDeterministic", "sets out of order")
    return parts[1] + parts[0] + parts[2]


def label(v):
    v = pairs(v, (1, 2), (3, 4, 5, 6, 7, 8, 9, 10))
    policy = text(v[1], 256)
    form(1 <= len(policy) <= 64 and re.fullmatch(r"[\w .()-]+", policy), "the policy")
    rank = uint(v[2], 63)
    if policy == "NL":
        form(9 not in v and 10 not in v, "a Dutch label with parts of another")
        limit(rank <= 4, "the level")
        parts = [check_export.LEVELS[rank]]
        for key, word in ((4, "KRING"), (3, "COMPARTIMENT"), (5, "MERKING")):
            if key in v:
                parts.append(f"{word} {category_values(v[key], empty=key == 4, upper=key != 5)}")
    else:
        form(not any(k in v for k in (3, 4, 5)) and 9 in v, "another policy with Dutch parts")
        classification = text(array(v[9], 2)[0], 256)
        form(1 <= len(classification) <= 64 and re.fullmatch(r"[\w .()-]+", classification), "the classification")
        uint(v[9][1], 4)
        parts = [f"{policy} {classification}"]
        if 10 in v:
            parts += foreign_sets(v[10])
    form(not (6 in v and 7 in v), "two durations")
    if 6 in v:
        try:
            form(datetime.date.fromisoformat(text(v[6], 10)).isoformat() == v[6], "a day")
        except ValueError:
            raise Refused("Form", "a day") from None
        parts.append(f"TOT {v[6]}")
    if 7 in v:
        event = text(v[7], 800)
        good = 1 <= len(event) <= 200 and event.strip() == event and '"' not in event and "//" not in event
        form(good and event.isprintable(), "an event")
        parts.append(f'TOT GEBEURTENIS "{event}"')
    parts.append(f"VASTGESTELD {name(v[8], 'person')}" if 8 in v else "VOORGESTELD")
    return " // ".join(parts)


def read_label(raw):
    return {"text": label(decode(raw))}


def recipient(v):
    array(v, 4)
    uint(v[2], 1)
    uint(v[3], 5)
    return name(v[0], "node"), null_or(v[1], name, "person")


def group(v):
    text(v, 264)
    kind, colon, rest = v.partition(":")
    form(colon and kind in ("role", "circle", "list"), "the kind of group")
    form(0 < len(rest) <= 64 and not any(unicodedata.category(c) == "Cc" for c in rest), "the name of a group")
    return v


def addressed(v, recipients):
    array(v, 2)
    members = array(v[1], most=64)
    for n in members:
        limit(uint(n) < 64, "a member")
    form(all(n < recipients for n in members) and all(x < y for x, y in zip(members, members[1:])), "the members")
    return group(v[0])


def attachment_ref(v):
    array(v, 2)
    digest(v[0])
    uint(v[1], MAX_ATTACHMENT)


def header(raw):
    limit(len(raw) <= 80 * KIB, "the header")
    h = pairs(decode(raw), (0, 1, 2, 4, 5, 6, 7, 11, 13), (3, 8, 9, 10, 12, 14, 15, 16))
    known(h[0] == 1, "the version")
    message_id(h[1])
    name(h[2], "node")
    label(h[4])
    to = [recipient(r) for r in array(h[5], most=64)]
    form(to and len(set(to)) == len(to), "the recipients")
    form(type(h[6]) is bool, "exercise")
    created, expires = (time(t) for t in array(h[7], 2))
    form(created < expires, "the lifetime")
    limit(expires - created <= LIFETIME, "the lifetime")
    digest(array(h[11], 2)[0])
    uint(h[11][1], 160 * KIB)
    array(h[13], 3)
    suite = uint(h[13][0], U16)
    known(suite in (1, 2), "the suite")
    level = h[4][9][1] if 9 in h[4] else h[4][2]
    form(suite == 1 or level < 2, "the suite")
    digest(h[13][1])
    digest(h[13][2])
    if 3 in h:
        name(h[3], "person")
    if 8 in h:
        time(h[8])
    if 10 in h:
        message_id(h[10])
    if 14 in h:
        a, _ = act(blob(h[14], MAX_ACT))
        form(a[3] == h[4] and (16 in h or (a[1] == 1 and a[4] == h[2])), "the act")
    if 16 in h:
        how, parent, word = array(h[16], 3)
        limit(uint(how) <= 1, "how it is passed on")
        message_id(parent)
        form(parent != h[1] and (how == 1 or word is None), "passed on")
        if word is not None:
            second(blob(word, MAX_SECOND))
        form(how == 0 or 14 in h, "an extract without an act")
        if 14 in h:
            named = 7 in a and a[7][0] == parent
            form(a[1] == 4 and named if how == 1 else a[1] in (1, 4) or named, "the act")
    if 15 in h:
        groups = [addressed(a, len(to)) for a in array(h[15], most=16)]
        kinds = ("role", "circle", "list")
        order = [(kinds.index(g.split(":", 1)[0]), g.split(":", 1)[1].encode()) for g in groups]
        form(groups and all(x < y for x, y in zip(order, order[1:])), "the groups")
    for key, read, most in ((9, message_id, 32), (12, attachment_ref, 16)):
        if key in h:
            form(array(h[key], most=most), "an empty list")
            for one in h[key]:
                read(one)
    return h


def head(n, low):
    """The head of a small CBOR item: only for what this file writes again."""
    if n < 24:
        return bytes([low | n])
    size = 1 if n < 1 << 8 else 2 if n < 1 << 16 else 4
    return bytes([low | (23 + size.bit_length())]) + n.to_bytes(size, "big")


def bstr(data):
    return head(len(data), 0x40) + data


def sign1(raw, purpose, most):
    """A signed object -> its payload, and the bytes its signature must cover (RFC 9052 section 4.4)."""
    tagged = decode(raw)
    form(isinstance(tagged, Tag) and tagged.number == 18, "not COSE_Sign1")
    array(tagged.item, 4)
    protected, unprotected, payload, signature = tagged.item
    p = pairs(decode(blob(protected, 128)), (1, 34, -65537))
    known(p[1] in (-7, -8, -35), "the algorithm")
    known(array(p[34], 2)[0] == -16, "the hash of x5t")
    if p[-65537] == 1:
        raise Refused("Unsupported", "a batch signature")
    known(p[-65537] == 0, "the signature kind")
    certificate = blob(pairs(unprotected, (33,))[33], 8 * KIB)
    form(sha256(certificate) == digest(p[34][1]), "the certificate")
    blob(payload, most)
    blob(signature, 128)
    external = f"ordonnans/1 {purpose}".encode()
    signed = b"\x84\x6aSignature1" + bstr(protected) + bstr(external) + bstr(payload)
    return payload, signed.hex()


def read_envelope(raw):
    limit(len(raw) <= MAX_ENVELOPE, "the envelope")
    signed, seals, content = array(decode(raw), 3)
    payload, to_be_signed = sign1(blob(signed, MAX_ENVELOPE), "envelope", 80 * KIB)
    h = header(payload)
    form(h[13][2] == sha256(blob(seals, 256 * KIB)), "the seals")
    form(h[11][0] == sha256(blob(content, 160 * KIB)) and h[11][1] == len(content), "the content")
    section = decode(seals)
    if h[13][0] == 2:
        epoch, section = array(section, 2)
        blob(epoch, 16, 16)
    for seal in array(section, most=64):
        array(seal, 5)
        name(seal[0])
        blob(seal[1], 8, 8)
        null_or(seal[2], uint, U32)
        blob(seal[3], 2 * KIB)
        blob(seal[4], 2 * KIB)
    # What the seal binds: the header as it was before sealing, so without keys 11, 12 and 13.
    start = payload.index(bytes([11, 0x82]) + bstr(h[11][0]))
    kept = [k for k in h if k not in (11, 12, 13)]
    sealing = bytes([13, 0x83, h[13][0]]) + bstr(h[13][1]) + bstr(h[13][2])
    last = payload[payload.index(sealing) + len(sealing) :]
    before = head(len(kept), 0xA0) + payload[1:start] + last
    return {
        "id": message_id(h[1]),
        "label": label(h[4]),
        "binding": sha256(b"ordonnans/1 binding" + before).hex(),
        "digest": sha256(raw).hex(),
        "to_be_signed": to_be_signed,
    }


# --- statements, content ----------------------------------------------------------------------------------------------------------


def read_receipt(raw):
    payload, to_be_signed = sign1(raw, "receipt", MAX_STATEMENT)
    r = pairs(decode(payload), (1, 2, 3, 4, 5))
    known(1 <= uint(r[3], 255) <= 7, "the kind")
    return {
        "message": message_id(r[1]),
        "envelope": digest(r[2]).hex(),
        "by": name(r[4]),
        "at": rfc3339(time(r[5])),
        "to_be_signed": to_be_signed,
    }


def read_key_package(raw):
    payload, to_be_signed = sign1(raw, "key-package", MAX_STATEMENT)
    p = pairs(decode(payload), (1, 2, 3, 4))
    known(uint(p[2], U16) == 1, "the suite")
    return {
        "name": name(p[1]),
        "kid": sha256(blob(p[3], 4 * KIB))[:8].hex(),
        "not_after": rfc3339(time(p[4])),
        "to_be_signed": to_be_signed,
    }


def act(raw):
    """A signed act -> its fields, and the bytes its signature must cover."""
    payload, to_be_signed = sign1(raw, "act", MAX_STATEMENT)
    a = pairs(decode(payload), (1, 2, 3, 4, 5, 6), (7,))
    known(1 <= uint(a[1], 4) <= 4, "the act")
    digest(a[2])
    shown = label(a[3])
    name(a[4], "node")
    by = name(a[5], "person")
    time(a[6])
    form(a[3][1] == "NL" and shown.endswith(f" // VASTGESTELD {by}"), "the act")
    form((7 in a) == (a[1] > 1), "what it follows")
    if 7 in a:
        message_id(array(a[7], 2)[0])
        digest(a[7][1])
    form(a[1] != 3 or (a[3][2] == 0 and 6 not in a[3] and 7 not in a[3]), "an end")
    return a, to_be_signed


def read_act(raw):
    a, to_be_signed = act(raw)
    facts = {
        "act": ("establish", "revise", "end", "extract")[a[1] - 1],
        "subject": a[2].hex(),
        "label": label(a[3]),
        "node": a[4],
        "by": a[5],
        "at": rfc3339(a[6]),
        "to_be_signed": to_be_signed,
    }
    if 7 in a:
        facts |= {"message": message_id(a[7][0]), "follows": a[7][1].hex()}
    return facts


def second(raw):
    """A second person's signed word -> its fields, and the bytes its signature must cover."""
    payload, to_be_signed = sign1(raw, "second", MAX_STATEMENT)
    s = pairs(decode(payload), (1, 2, 3))
    digest(s[1])
    name(s[2], "person")
    time(s[3])
    return s, to_be_signed


def read_second(raw):
    s, to_be_signed = second(raw)
    return {"act": s[1].hex(), "by": s[2], "at": rfc3339(s[3]), "to_be_signed": to_be_signed}


def read_declaration(raw):
    payload, to_be_signed = sign1(raw, "declaration", MAX_STATEMENT)
    d = pairs(decode(payload), (1, 2, 3))
    return {"event": text(d[1], 800), "by": name(d[2]), "at": rfc3339(time(d[3])), "to_be_signed": to_be_signed}


def read_order(raw):
    payload, to_be_signed = sign1(raw, "order", MAX_STATEMENT)
    what, by, at = array(decode(payload), 3)
    form(type(what) is list and what and type(what[0]) is int, "the order")
    kinds = {1: ("open", 3), 2: ("close", 2), 3: ("review", 5)}
    known(what[0] in kinds, "the order")
    word, fields = kinds[what[0]]
    form(len(what) == fields, "the order")
    if what[0] in (1, 2):
        form(re.fullmatch("[a-z0-9-]{1,64}", text(what[1], 64)) is not None, "the incident")
    if what[0] == 1:
        form(every(message_id, 32)(what[2]), "no messages")
    if what[0] == 3:
        level_code(what[1]), uint(what[2]), uint(what[3]), digest(what[4])
    return {"order": word, "by": name(by), "at": rfc3339(time(at)), "to_be_signed": to_be_signed}


def read_approval(raw):
    payload, to_be_signed = sign1(raw, "approval", MAX_STATEMENT)
    a = pairs(decode(payload), (1, 2, 3, 4))
    return {
        "register": digest(a[1]).hex(),
        "version": str(uint(a[2])),
        "by": name(a[3]),
        "at": rfc3339(time(a[4])),
        "to_be_signed": to_be_signed,
    }


def read_content(raw):
    salt, subject, media_type, file, body, attachments = array(decode(raw), 6)
    blob(salt, 32, 32)
    limit(len(text(subject, 1024)) <= 256, "the subject")
    null_or(file, text, 1020)
    for a in array(attachments, most=16):
        array(a, 5)
        digest(a[0])
        blob(a[1], 32, 32)
        text(a[2], 1020)
        text(a[3], 255)
        uint(a[4], MAX_ATTACHMENT)
    return {
        "subject": subject,
        "media_type": text(media_type, 255),
        "body": str(len(blob(body, 64 * KIB))),
        "attachments": str(len(attachments)),
        "digest": sha256(b"ordonnans/1 subject" + raw).hex(),
    }


# --- frames -----------------------------------------------------------------------------------------------------------------------


def maybe(read, *args):
    return lambda v: null_or(v, read, *args)


def some(read, *args):
    return lambda v: read(v, *args)


def code(most):
    return lambda v: known(1 <= uint(v, 255) <= most, "a code")


def entry(v):
    array(v, 3)
    name(v[0])
    text(v[1], 1020)
    null_or(v[2], blob, MAX_STATEMENT)


def every(read, most):
    return lambda v: [read(one) for one in array(v, most=most)]


def addressee(v):
    array(v, 2)
    name(v[0])
    null_or(v[1], name)


def step(v):
    array(v, 4)
    uint(v[0], U16)
    null_or(v[1], name)
    boolean(v[2])
    limit(len(text(v[3], 1600)) <= 400, "a fact")


def addressees(most):
    return lambda v: form(every(addressee, most)(v), "nobody")


def level_code(v):
    known(uint(v, U8) <= 4, "the level")
    return v


def query(v):
    array(v, 10)
    uint(v[0])
    uint(v[1], 256)
    for read, value in zip((message_id, time, time, level_code, some(uint, U8), some(uint, U16), name, name), v[2:]):
        null_or(value, read)


def proof_of(v):
    array(v, 3)
    uint(v[1])
    uint(v[2])
    known(uint(v[0]) in (1, 2, 3), "the kind of proof")
    form(v[0] != 3 or v[1] == v[2], "the size")


def readers(v):
    array(v, 6)
    name(v[0])
    text(v[1], 1020)
    boolean(v[2])
    boolean(v[3])
    null_or(v[4], text, 1020)
    every(name, 1024)(v[5])


def groups_asked(v):
    form(every(group, 16)(v), "no group")


def members(v):
    array(v, 2)
    every(addressee, 64)(v[0])
    uint(v[1], U16)


def news(v):
    array(v, 3)
    kind = uint(v[0])
    if v[1] is not None:
        name(v[1])
    known(kind <= 5, "the news")
    form((v[1] is None) == (kind in (0, 3)), "the node")
    if kind == 0:
        uint(v[2], U16)
    elif kind in (3, 4):
        form(type(v[2]) is int and 0 <= v[2] <= 5, "the precedence")
    else:
        uint(v[2], 0)


CHECKPOINT = maybe(text, 4096)
VERIFIER = some(text, 512)
HASHES = every(digest, 130)
TRANSFER = [digest, some(uint, MAX_ATTACHMENT)]
FRAMES = {
    1: ("Hello", [some(uint, U16), CHECKPOINT]),
    2: ("Welcome", [name, CHECKPOINT, VERIFIER, HASHES]),
    3: ("Publish", [some(blob, MAX_ENVELOPE)]),
    4: ("Accepted", [message_id, time, uint]),
    5: ("Refused", [maybe(message_id), code(11), maybe(uint, U16), maybe(name), maybe(uint, U32)]),
    6: ("Deliver", [some(blob, MAX_ENVELOPE)]),
    7: ("Receipt", [some(blob, MAX_STATEMENT)]),
    8: ("ReceiptStored", [message_id, code(7), name]),
    9: ("KeyPackage", [some(blob, MAX_STATEMENT)]),
    10: ("KeyPackageStored", []),
    11: ("DirectoryGet", []),
    12: ("Directory", [uint, every(entry, 128), boolean]),
    13: ("AttachmentOffer", TRANSFER),
    14: ("AttachmentState", TRANSFER),
    15: ("AttachmentGet", TRANSFER),
    16: ("AuditGet", [some(uint, U32), query]),
    17: ("AuditPage", [some(uint, U32), every(some(blob, 1024), 256), every(maybe(blob, 1024), 256), CHECKPOINT, maybe(uint)]),
    18: ("CatalogGet", [some(uint, U32), addressees(64)]),
    19: ("Catalog", [some(uint, U32), every(label, 256)]),
    20: ("ExplainGet", [some(uint, U32), name, addressees(16), label, maybe(time)]),
    21: ("Explanation", [some(uint, U32), every(step, 256)]),
    22: ("Act", [some(blob, MAX_ACT)]),
    23: ("Declare", [some(blob, MAX_STATEMENT)]),
    24: ("ReviewDue", [message_id, name, maybe(text, 800)]),
    25: ("Kept", [digest]),
    26: ("NotKept", [digest, code(11), maybe(uint, U16)]),
    27: ("WatchGet", [some(uint, U32), query]),
    28: ("ProofGet", [some(uint, U32), proof_of]),
    29: ("Proof", [some(uint, U32), lambda v: null_or(v, HASHES)]),
    30: ("CheckpointGet", [some(uint, U32)]),
    31: ("Checkpoint", [maybe(uint, U32), some(text, 4096), HASHES]),
    32: ("Cosign", [VERIFIER, uint, some(text, 512)]),
    33: ("Order", [some(blob, MAX_STATEMENT)]),
    34: ("ReadersGet", [some(uint, U32), every(name, 64), level_code]),
    35: ("Readers", [some(uint, U32), every(readers, 64)]),
    36: ("Notice", [message_id, name, time, news]),
    37: ("ExpandGet", [some(uint, U32), groups_asked, label]),
    38: ("Expanded", [some(uint, U32), every(lambda v: null_or(v, members), 16)]),
    39: ("RenewalAsk", [some(blob, 4096), some(blob, 128)]),
    40: ("Renewed", [some(blob, 8192)]),
}


def read_frame(raw):
    limit(len(raw) <= 512 * KIB, "the frame")
    kind, *rest = array(decode(raw), most=6) or [None]
    form(type(kind) is int and kind >= 0, "the kind")
    known(kind in FRAMES, "the kind")
    word, fields = FRAMES[kind]
    for read, value in zip(fields, array(rest, len(fields))):
        read(value)
    form(kind != 17 or len(rest[1]) == len(rest[2]), "the details")
    return {"frame": word}


# --- the log ----------------------------------------------------------------------------------------------------------------------


def translated(act, *args):
    try:
        return act(*args)
    except check_export.Fault as e:
        raise Refused("Form", e) from None


def read_record(raw):
    fields = translated(check_export.public_fields, raw)
    return {k: str(v) for k, v in fields.items()} | {"leaf": sha256(b"\0" + raw).hex()}


def read_detail(raw):
    fields = translated(check_export.detail_fields, raw)
    return {k: str(v) for k, v in fields.items() if v is not None}


READERS = {
    "label": read_label,
    "frame": read_frame,
    "envelope": read_envelope,
    "signed-receipt": read_receipt,
    "signed-key-package": read_key_package,
    "signed-approval": read_approval,
    "signed-act": read_act,
    "signed-second": read_second,
    "signed-declaration": read_declaration,
    "signed-order": read_order,
    "content": read_content,
    "record": read_record,
    "detail": read_detail,
}


def check(path, counts):
    data = json.loads(path.read_text("utf-8"))
    for one in data if isinstance(data, list) else [data]:
        # Texts that people write, and XML, which check_4774.py holds against the published schema.
        if one["rule"] in ("stanag", "register-file", "policy-file", "typed"):
            continue
        if one["rule"] == "checkpoint":
            check_checkpoints(path.name, one, counts)
            continue
        if one["rule"] == "tampered":
            check_tampered(path, one, counts)
            continue
        read = READERS[one["rule"]]
        for good in one["good"]:
            try:
                facts = read(bytes.fromhex(good["hex"]))
            except Refused as e:
                fail(path, good, e)
            for key, fact in facts.items():
                if good["facts"].get(key) != fact:
                    fail(path, good, f"{key} is {fact}")
            if "salt" in good["facts"]:
                both = bytes.fromhex(good["facts"]["salt"] + good["hex"])
                if sha256(both).hex() != good["facts"]["commitment"]:
                    fail(path, good, "the commitment is another")
            counts["good"] += 1
        for bad in one["bad"]:
            try:
                read(bytes.fromhex(bad["hex"]))
            except Refused as e:
                counts["bad"] += 1
                counts["same name"] += e.name == bad["error"]
                continue
            fail(path, bad, "it is not refused")


def check_checkpoints(file, one, counts):
    for good in one["good"]:
        size, root, signed = check_export.read_checkpoint(good["text"].encode(), one["vkey"])
        facts = {"size": str(size), "root": root.hex()}
        if any(good["facts"][k] != v for k, v in facts.items()):
            raise Disagreement(f"{file}, {good['name']}: {facts}")
        counts["good"] += 1
        counts["signatures not checked"] += not signed
    for bad in one["bad"]:
        try:
            _, _, signed = check_export.read_checkpoint(bad["text"].encode(), one["vkey"])
        except check_export.Fault:
            counts["bad"] += 1
            continue
        if signed or bad["error"] != "Signature":
            raise Disagreement(f"{file}, {bad['name']}: it is not refused")


def check_tampered(path, one, counts):
    """Only the form: signatures and seals are for who has the keys. What a decoder need not refuse must read as it is."""
    good = {g["name"]: bytes.fromhex(g["hex"]) for g in one["good"]}
    for whole in good.values():
        READERS["envelope"](whole)
        counts["good"] += 1
    for bad in one["bad"] + one["again"]:
        whole, splice = good[bad["of"]], bad["splice"]
        rest = whole[splice["at"] + splice["drop"] :]
        by_form = bad.get("refused_by") == "decode"
        try:
            READERS["envelope"](whole[: splice["at"]] + bytes.fromhex(splice["put"]) + rest)
        except Refused as e:
            if not by_form:
                fail(path, bad, e)
            counts["bad"] += 1
            counts["same name"] += e.name == bad["error"]
            continue
        if by_form:
            fail(path, bad, "it is not refused")
    for key in one["keys"]:
        READERS["signed-key-package"](bytes.fromhex(key["hex"]))


class Disagreement(Exception):
    """A vector that reads otherwise here."""


def fail(path, vector, why):
    raise Disagreement(f"{path.name}, {vector['name']}: {why}")


def main(args):
    if len(args) != 1:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    counts = {"good": 0, "bad": 0, "same name": 0, "signatures not checked": 0}
    files = sorted(pathlib.Path(args[0]).glob("*.json"))
    try:
        for path in files:
            check(path, counts)
    except (Disagreement, OSError) as e:
        print(e, file=sys.stderr)
        return 4
    print(", ".join([f"{len(files)} files", *(f"{n} {what}" for what, n in counts.items())]))
    return 0 if counts["good"] and counts["bad"] else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
