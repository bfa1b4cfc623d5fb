//! Archives of stored members, as `torch.save` writes them: taken apart and put together again, so that what is mutated in a member is
//! not stopped by its checksum.

/// A member's name and bytes.
pub type Member = (String, Vec<u8>);

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

/// The members of an archive that has nothing but stored ones and no comment.
pub fn members(bytes: &[u8]) -> Option<Vec<Member>> {
    let end = bytes.len().checked_sub(22)?;
    let (count, mut at) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 16)?);
    let mut members = Vec::new();
    for _ in 0..count {
        let [size, name, extra, comment, local] =
            [u32_at(bytes, at + 24)?, u16_at(bytes, at + 28)?, u16_at(bytes, at + 30)?, u16_at(bytes, at + 32)?, u32_at(bytes, at + 42)?];
        let text = String::from_utf8(bytes.get(at + 46..at + 46 + name)?.to_vec()).ok()?;
        let start = local + 30 + u16_at(bytes, local + 26)? + u16_at(bytes, local + 28)?;
        members.push((text, bytes.get(start..start + size)?.to_vec()));
        at += 46 + name + extra + comment;
    }
    Some(members)
}

/// An archive of members.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let local = bytes.len() as u32;
        // Version, flags, method, time and date; then checksum, sizes and the name's length.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        [crc32(data), data.len() as u32, data.len() as u32].iter().for_each(|n| common.extend(n.to_le_bytes()));
        [name.len() as u16, 0].iter().for_each(|n| common.extend(n.to_le_bytes()));
        bytes.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), data].concat());
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &local.to_le_bytes(), name.as_bytes()].concat());
    }
    let (count, start) = (members.len() as u16, bytes.len() as u32);
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &count.to_le_bytes(), &count.to_le_bytes(), &(directory.len() as u32).to_le_bytes()].concat();
    [bytes, directory, end, start.to_le_bytes().to_vec(), vec![0; 2]].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 });
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apart_and_together() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let all = vec![("a/data.pkl".to_owned(), b"pickle".to_vec()), ("a/data/0".to_owned(), vec![])];
        assert_eq!(members(&archive(&all)), Some(all));
    }
}
