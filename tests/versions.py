"""What the libraries at hand can do: tests of the rest are not collected, for they could only be skipped."""

import scipy
import sklearn
from sklearn.utils.fixes import parse_version

# scikit-learn takes arrays of other libraries only with a SciPy that does.
ARRAY_API = parse_version(scipy.__version__) >= parse_version("1.14")
# Older ones hand no weights to the score of a pipeline in a search, and join frames of polars before naming columns.
NEW_SKLEARN = parse_version(sklearn.__version__) >= parse_version("1.9")
