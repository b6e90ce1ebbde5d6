"""The fields array, int64[messages, width]: what the columns of a message's row mean.

A row is all that the pipeline keeps of a request: a plan, a few numbers, and where in the message
its id and raw contents lie. Addresses are valid while the message object lives.
"""

CODE = 0  # 0: the other columns hold; else one of FALLBACK_*, and they are 0
PLAN = 1  # index into the plans of the table
ROWS = 2  # batch size; 1 if the model is not batched
ID_ADDRESS = 3
ID_BYTES = 4
OUTPUT_MASK = 5  # bit j: output j is wanted; all outputs if the request names none
NBYTES = 6  # of the raw contents of all inputs
INPUTS = 7  # input k of the plan: address of its raw contents in 7 + 2 k, their bytes in 8 + 2 k

# Behind the inputs, from the table's `dims_start`: the dimensions of all inputs in the plan's
# order, one behind another, without the batch dimension.

FALLBACK_FORM = 1  # malformed, or a field unknown, repeated, out of order or of another wire type
FALLBACK_MODEL = 2  # no such model and version, or one whose plan is never fast
FALLBACK_ID = 3  # not ASCII, or very long
FALLBACK_INPUT = 4  # an input is unknown, repeated, missing or of another datatype
FALLBACK_SHAPE = 5  # another shape than the plan's, or the rows of two inputs differ
FALLBACK_OUTPUT = 6  # an output is unknown or repeated
FALLBACK_CONTENTS = 7  # raw contents missing, surplus, or not as long as their shape says
