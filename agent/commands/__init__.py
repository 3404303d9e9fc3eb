"""Commands of the centre over MQTT, and what follows from them: suppression and pace.

Rules: contract, section 3, rule 7. A message is refused or obeyed at the `Desk`; what may be obeyed at all is
the list `COMMANDS` of the config, and all that can be done is what `Hands` holds.
"""

from agent.commands.deeds import Hands
from agent.commands.desk import Desk
from agent.commands.request import Code
from agent.commands.suppression import Kind, Suppression

__all__ = ["Code", "Desk", "Hands", "Kind", "Suppression"]
