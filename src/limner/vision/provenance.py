"""Says inside a picture's file that a program has made it: IPTC's DigitalSourceType, in XMP (ISO 16684-1)."""

from typing import Literal
from xml.sax.saxutils import quoteattr

SourceType = Literal["algorithmicallyEnhanced", "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""What the names above are added to."""

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:limner="urn:limner:xmp:"
 Iptc4xmpExt:DigitalSourceType={source}
 xmp:CreatorTool={tool} limner:Painter={painter}{seed}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def xmp_of(source: SourceType, *, tool: str, painter: str, seed: int | None) -> bytes:
    """The XMP packet for `image.encode`: how the picture was made, by which painter, from which seed if it has one."""
    return _PACKET.format(
        source=quoteattr(f"{SOURCE_TYPES}{source}"),
        tool=quoteattr(tool),
        painter=quoteattr(painter),
        seed="" if seed is None else f' limner:Seed="{seed}"',
    ).encode()
