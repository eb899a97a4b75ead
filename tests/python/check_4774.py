#!/usr/bin/env python3
"""check_4774.py SCHEMA VECTORS

Holds the labels of docs/vectors/stanag.json against the schema of ADatP-4774 (confidentialitymetadatalabel, version 1.3), by libxml2.
Every good label must be valid, and every label in a good binding. Of the bad ones it says how many the schema refuses too: it knows no
policy, and less than the text of the standard asks.

Exit codes: 0 they agree, 2 wrong arguments, 3 lxml is not here, 4 they do not agree.
"""

import json
import pathlib
import sys

NAMESPACE = "urn:nato:stanag:4774:confidentialitymetadatalabel:1:0"
ROOTS = {
    "originatorConfidentialityLabel",
    "alternativeConfidentialityLabel",
    "metadataConfidentialityLabel",
    "ConfidentialityLabel",
}


def labels(tree):
    """The outermost labels of a document."""
    for element in tree.iter(f"{{{NAMESPACE}}}*"):
        name = element.tag.rpartition("}")[2]
        outer = any(str(a.tag).startswith(f"{{{NAMESPACE}}}") for a in element.iterancestors())
        if name in ROOTS and not outer:
            yield element


def main(args):
    if len(args) != 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        from lxml import etree
    except ImportError:
        print("lxml is not here", file=sys.stderr)
        return 3
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    schema = etree.XMLSchema(etree.parse(args[0], parser))
    vectors = json.loads(pathlib.Path(args[1]).read_text("utf-8"))
    valid = 0
    for good in vectors["good"]:
        if good["what"] not in ("label", "binding"):
            continue
        tree = etree.fromstring(good["xml"].encode(), parser)
        for label in labels(tree):
            # Apart from the document around it, with the namespaces it uses.
            alone = etree.fromstring(etree.tostring(label, with_tail=False), parser)
            if not schema.validate(alone):
                print(f"{good['name']}: {schema.error_log.last_error}", file=sys.stderr)
                return 4
            valid += 1
    bad = refused = 0
    for one in vectors["bad"]:
        if one["what"] != "label":
            continue
        bad += 1
        try:
            refused += not schema.validate(etree.fromstring(one["xml"].encode(), parser))
        except (etree.LxmlError, ValueError):
            refused += 1
    print(f"{valid} labels are valid by the schema; it refuses {refused} of {bad} bad ones")
    return 0 if valid else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
