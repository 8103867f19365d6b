"""Values become ids: canonical strings, and the hash. See docs/formats/ids.md."""

from persia_core.ids.canonical import canonical, cross
from persia_core.ids.scheme import MISSING, RARE, feature_id, feature_ids, feature_salt

__all__ = ["MISSING", "RARE", "canonical", "cross", "feature_id", "feature_ids", "feature_salt"]
