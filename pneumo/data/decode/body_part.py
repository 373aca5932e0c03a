"""What a DICOM header says in words of the part of the body and the view: whether it is a frontal chest film.

Words are known in the languages of most archives. What is not known decides nothing.
"""

import re
import unicodedata
from collections.abc import Mapping

SERIES_TEXTS = (  # these describe this image, or the few taken with it
    *("BodyPartExamined", "AnatomicRegion", "SeriesDescription", "ProtocolName"),
    *("AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription"),
)
STUDY_TEXTS = ("RequestedProcedureDescription", "StudyDescription")  # which may have films of several parts
VIEW_TEXTS = ("ViewPosition", "ViewCode", "SeriesDescription", "ProtocolName")


def _any_of(words: str) -> re.Pattern[str]:
    """Matches where one of these stands as a word of a plain text (`_plain`); * is any letters, _ a space."""
    patterns = (word.replace("*", r"\w*").replace("_", " ") for word in words.split())
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b")


CHEST = _any_of(
    """
    *CHEST* *THORAX* *THORAK* *TORAX* TORACE TORAKS* CXR LUNG* PULMO* POUMON* POLMON* MEDIASTIN*
    BRUST BRUSTK* BORST BORSTK* BROST BROSTK* PEITO HRUDN* KLATK* PLUC* KEUHKO* AKCIGER* GOGUS*
    RIB RIBS RIPPE* COTES COSTILLA* COSTELA* COSTE (?!ГРУДНОИ_ОТДЕЛ)ГРУДН* ЛЕГКИ* *胸(?!椎)* *肺* *흉부*
    """
)
OTHER = _any_of(
    """
    ABD ABDOM* ADDOM* BRZUCH* BRICH* BAUCH* BUIK* VENTRE ЖИВОТ* БРЮШН* KUB *PELV* BECKEN* BASSIN BACINO
    BACIA BEKKEN* MIEDNIC* PANEV* ТАЗ* COLON STOMACH* MAGEN* LIVER GALLBLAD* PANCREA* SPLEEN KIDNEY*
    BLADDER* RECTUM URETER* UTERUS PROSTAT* SACR* KREUZBEIN* COCC* BREAST* MAMMO* MAMMA* BRUSTDRUS* *腹*
    *骨盆* *骨盤* *복부* *골반*
    *SPINE SPINAL RACHIS COLONNA COLONNE COLUMNA COLUNA *WIRBEL* *WERVEL* [HBL]WS KREGOSLUP* *RYGG LUMB*
    CERVIC* ПОЗВОНОЧ* *椎* *척추*
    HEAD *SKULL SCHADEL* CRANE CRANEO CRANI* SCHEDEL* KOPF* TETE NECK HALS SINUS* ORBIT* EYE EYES EAR
    EARS FACIAL* MANDIB* MAXILL* JAW TEETH DENTAL NASAL NOSE CZASZK* LEBK* ЧЕРЕП* *头* *頭* *두개*
    *SHOULDER* *SCHULTER* EPAULE* SPALLA* HOMBRO* OMBRO* SCHOUDER* BARK ПЛЕЧ* *CLAVIC* *SCAPULA*
    UPPER_EXT* (?<!C_)ARMS? *HUMER* OBERARM* UNTERARM* *ELBOW* ELL?E?N?BOGEN* COUDE* GOMIT* CODO*
    COTOVELO* *FOREARM* RADIUS* ULNA* *WRIST* POIGNET* POLSO MUNECA* HANDS?(?!_HELD) HANDGELENK* MANOS?
    MAO MAIN_[DGF]* REKA RUKA КИСТ* *FINGER* DOIGT* DITO DEDOS? *THUMB* DAUMEN* POUCE *手* *손*
    HIPS? HUE?FT* HANCHE* ANCA CADERA* QUADRIL HEUP* BIODR* KYCEL* БЕДР* FEMUR* THIGH* OBERSCHENKEL*
    *KNEES? KNIE* GENOUX? GINOCCHI* RODILLA* JOELHO* KOLAN* КОЛЕН* PATELLA* TIBIA* FIBULA*
    UNTERSCHENKEL* JAMBE* LEGS? LOWER_EXT* EXTREMIT* *ANKLES? SPRUNGGELENK* CHEVILLE* CAVIGLI* TOBILLO*
    TORNOZELO* ENKEL* *FOOT *FEET FUSS* PIEDS? PIEDE PIE VOET* STOPA* СТОП* CALCAN* HEELS? TOES? *膝*
    *足* *脚* *髋* *股* *무릎*
    """
)
LATERAL = _any_of(
    "LAT [RL]LAT LATERAL LATERALE LATERALIS SEITLICH* PROFIL* PERFIL BOCZN* БОКОВ* *側面* *侧位*"
)
FRONTAL = _any_of("A_?P P_?A *FRONTAL* *POSTERO* *ANTERO* DECUB* FACE ПРЯМ* *正面* *正位*")
LATERAL_POSITIONS = ("LL", "RL", "LLO", "RLO")  # PS3.3, C.8.1.1.1.1; RLD and LLD, lying, are frontal films


def names_chest(text: str) -> bool:
    return bool(CHEST.search(_plain(text)))


def not_frontal_chest(header: Mapping[str, str]) -> str:
    """What the header says that is no frontal chest film, in its own words; "" = nothing.

    Another part of the body is taken from the texts of the series: one that names another part and not the
    chest is enough, whatever the others say, since devices fill in CHEST by themselves. Texts of the study
    count where those of the series name no part at all.
    """
    for names in (SERIES_TEXTS, STUDY_TEXTS):
        texts = [(name, header[name], _plain(header[name])) for name in names if header.get(name)]
        chest = [bool(CHEST.search(plain)) for _, _, plain in texts]
        for (name, text, plain), is_chest in zip(texts, chest, strict=True):
            if not is_chest and OTHER.search(plain):
                return f'header: {name} "{text}"'
        if any(chest):
            break
    return _lateral(header)


def _lateral(header: Mapping[str, str]) -> str:
    """The first text that names a view decides."""
    for name in VIEW_TEXTS:
        plain = _plain(header.get(name, ""))
        if FRONTAL.search(plain):
            return ""
        if LATERAL.search(plain) or (name == "ViewPosition" and plain in LATERAL_POSITIONS):
            return f'header: {name} "{header[name]}", a lateral view'
    return ""


def _plain(text: str) -> str:
    """Capitals without accents, with single spaces for all that is no letter: "L-Fuß_2" -> "L FUSS"."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text.upper()) if not unicodedata.combining(c))
    letters = unicodedata.normalize("NFC", bare).translate({ord("Ł"): "L", ord("Ø"): "O"})
    return re.sub(r"[\W\d_]+", " ", letters).strip()
