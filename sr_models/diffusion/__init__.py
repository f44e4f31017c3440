"""Networks that draw a picture from noise, the process that they undo, and the samplers that do it."""
