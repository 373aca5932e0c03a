"""Decides from the texts of a DICOM header whether an image can be a frontal chest radiograph.

Words for body parts and views are known in the languages of most archives; unknown words decide nothing.
"""

import re
import unicodedata
from collections.abc import Mapping

SERIES_TEXTS = (  # they describe this image, or the few taken with it
    *("BodyPartExamined", "AnatomicRegion", "SeriesDescription", "ProtocolName"),
    *("AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription"),
)
STUDY_TEXTS = (
    "RequestedProcedureDescription",
    "StudyDescription",
)  # a study may have radiographs of several parts
VIEW_TEXTS = ("ViewPosition", "ViewCode", "SeriesDescription", "ProtocolName")


def _any_of(words: str) -> re.Pattern[str]:
    """Returns a pattern that finds any of the words in a text of `_plain`; * is any letters, _ a space."""
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
LATERAL_POSITIONS = ("LL", "RL", "LLO", "RLO")  # PS3.3, C.8.1.1.1.1; RLD and LLD (decubitus) are frontal


def names_chest(text: str) -> bool:
    """Returns whether a text names the chest."""
    return bool(CHEST.search(_plain(text)))


def not_frontal_chest(header: Mapping[str, str]) -> str:
    """Returns the text of the header that contradicts a frontal chest radiograph, or "" if none does.

    One text of the series that names another part of the body and not the chest is enough, whatever the
    others name, since devices fill in CHEST by themselves. The texts of the study are used if those of the
    series name no part."""
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
    """Returns the first text that names a view if that view is lateral, else ""."""
    for name in VIEW_TEXTS:
        plain = _plain(header.get(name, ""))
        if FRONTAL.search(plain):
            return ""
        if LATERAL.search(plain) or (name == "ViewPosition" and plain in LATERAL_POSITIONS):
            return f'header: {name} "{header[name]}", a lateral view'
    return ""


def _plain(text: str) -> str:
    """Returns capitals without accents, with single spaces for all else: "L FUSS" for "L-Fuß_2"."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text.upper()) if not unicodedata.combining(c))
    letters = unicodedata.normalize("NFC", bare).translate({ord("Ł"): "L", ord("Ø"): "O"})
    return re.sub(r"[\W\d_]+", " ", letters).strip()
